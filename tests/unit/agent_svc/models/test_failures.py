"""Refusals and failures of providers become errors with a sentence for a person."""

from __future__ import annotations

import json

import pytest

from agent_svc.adapters.models.failures import clean, from_error_object, from_response
from agent_svc.domain.model import (
    AnswerWithheld,
    ContextOverflow,
    KeyRefused,
    ModelError,
    ModelRateLimited,
    ModelRejected,
    ModelUnavailable,
    NoSuchModel,
    QuotaExhausted,
)

SERVER = "The model server at http://h/v1"


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (500, b"", ModelUnavailable, "failed (HTTP 500)."),
        (503, b"<html><h1>Overloaded</h1></html>", ModelUnavailable, "failed (HTTP 503): Overloaded"),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', ModelUnavailable, "529"),
        (408, b"", ModelUnavailable, "gave up for now (HTTP 408)"),
        (409, b'{"error":{"message":"Conflict"}}', ModelUnavailable, "Conflict"),
        (429, b'{"error":{"message":"Too many requests","code":"rate_limit"}}', ModelRateLimited, "asks to slow down"),
        (302, b"", ModelRejected, "redirects elsewhere"),
        (
            422,
            b'{"detail":[{"loc":["body","top_k"],"msg":"Extra inputs"}]}',
            ModelRejected,
            "Extra inputs (body.top_k)",
        ),
        (400, b"\xff\xfe garbage \x00", ModelRejected, "refused the request (HTTP 400)"),
        (400, b"[" * 5000, ModelRejected, "refused the request"),
        (400, b'{"error":{"message":"max_tokens: 99999 > 8192"}}', ModelRejected, "refused the request"),
    ],
)
def test_http_errors(status: int, body: bytes, kind: type[ModelError], says: str) -> None:
    error = from_response(SERVER, "gpt-9", status, {}, body)
    assert type(error) is kind
    assert says in str(error)
    assert error.retryable is issubclass(kind, (ModelUnavailable, ModelRateLimited))
    assert len(str(error)) < 450


# How each provider words it. The sentence that a person reads must be the same for all of them.
WORDINGS: list[tuple[type[ModelError], str, int, str]] = [
    (ContextOverflow, "OpenAI", 400, '{"error":{"message":"too long","code":"context_length_exceeded"}}'),
    (
        ContextOverflow,
        "OpenAI words",
        400,
        "This model's maximum context length is 8192 tokens. However, you requested 9000",
    ),
    (ContextOverflow, "Anthropic", 400, '{"error":{"message":"prompt is too long: 210000 tokens > 200000"}}'),
    (
        ContextOverflow,
        "Anthropic sum",
        400,
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    ),
    (
        ContextOverflow,
        "Google",
        400,
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    (ContextOverflow, "Bedrock", 400, "Input is too long for requested model."),
    (ContextOverflow, "Cohere", 400, "too many tokens: total number of tokens in the prompt cannot exceed 4081"),
    (ContextOverflow, "Groq", 400, "Please reduce the length of the messages or completion."),
    (ContextOverflow, "OpenRouter", 400, "This endpoint's maximum context length is 131072 tokens."),
    (ContextOverflow, "vLLM", 400, "The decoder prompt (length 9000) is longer than the maximum model length of 8192."),
    (ContextOverflow, "llama.cpp", 400, '{"error":{"type":"exceed_context_size_error","message":"5 > 4"}}'),
    (ContextOverflow, "llama.cpp 500", 500, '{"error":"the input exceeds the context window"}'),
    (
        ContextOverflow,
        "LM Studio",
        400,
        "Trying to keep the first 5000 tokens when context the overflows. The context length is 4096",
    ),
    (
        ContextOverflow,
        "xAI",
        400,
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
    ),
    (
        QuotaExhausted,
        "OpenAI",
        429,
        '{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}',
    ),
    (QuotaExhausted, "Anthropic", 400, "Your credit balance is too low to access the Anthropic API."),
    (QuotaExhausted, "OpenRouter", 402, "This request requires more credits, or fewer max_tokens."),
    (QuotaExhausted, "DeepSeek", 402, '{"error":{"message":"Insufficient Balance"}}'),
    (QuotaExhausted, "nothing said", 402, ""),
    (KeyRefused, "OpenAI", 401, '{"error":{"message":"Incorrect API key provided: sk-abc***xyz."}}'),
    (KeyRefused, "Anthropic", 401, '{"error":{"type":"authentication_error","message":"invalid x-api-key"}}'),
    (KeyRefused, "Google", 400, '[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key."}}]'),
    (KeyRefused, "OpenRouter", 401, '{"error":{"message":"No auth credentials found","code":401}}'),
    (KeyRefused, "vLLM", 401, '{"error":"Unauthorized"}'),
    (KeyRefused, "forbidden", 403, '{"error":{"message":"Project has no access"}}'),
    (NoSuchModel, "OpenAI", 404, '{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}'),
    (NoSuchModel, "Anthropic", 404, '{"error":{"type":"not_found_error","message":"model: claude-9"}}'),
    (NoSuchModel, "Ollama", 404, '{"error":{"message":"model \\"x\\" not found, try pulling it first"}}'),
    (NoSuchModel, "OpenRouter", 400, "x/y is not a valid model ID"),
    (NoSuchModel, "Mistral", 400, '{"message":"Invalid model: foo","type":"invalid_model","code":"1500"}'),
    (NoSuchModel, "Groq", 400, '{"error":{"message":"gone","code":"model_decommissioned"}}'),
    (NoSuchModel, "wrong URL", 404, '{"detail":"Not Found"}'),
    (AnswerWithheld, "Azure", 400, '{"error":{"code":"content_filter","message":"The response was filtered"}}'),
    (AnswerWithheld, "OpenAI", 400, "Your request was rejected as a result of our safety system."),
    (AnswerWithheld, "OpenRouter", 403, "Your chosen model requires moderation and your input was flagged"),
    (AnswerWithheld, "Google", 400, "The prompt was blocked: PROHIBITED_CONTENT"),
]
SENTENCES: dict[type[ModelError], str] = {
    ContextOverflow: "The conversation is too long for the context window of gpt-9",
    QuotaExhausted: "The account at the model server at http://h/v1 has no quota or credit left",
    KeyRefused: "the configured API key",
    NoSuchModel: "does not know the model gpt-9",
    AnswerWithheld: "withheld the answer by its content rules",
}


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [(k, s, b) for k, _, s, b in WORDINGS],
    ids=[f"{k.__name__} {n}" for k, n, _, _ in WORDINGS],
)
def test_every_providers_words_for_it_are_understood(kind: type[ModelError], status: int, body: str) -> None:
    if body and body[0] not in "[{":
        body = json.dumps({"error": {"message": body, "type": "invalid_request_error"}})
    error = from_response(SERVER, "gpt-9", status, {}, body.encode())
    assert type(error) is kind
    assert SENTENCES[kind] in str(error)
    assert "sk-abc" not in str(error)
    assert not error.retryable
    assert error.elsewhere is (kind in (QuotaExhausted, KeyRefused, NoSuchModel))


@pytest.mark.parametrize(
    "words",
    [
        "Invalid content type. image_url is only supported by certain models: images are not supported",
        "No endpoints found that support image input",
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "At most 0 image(s) may be provided in one request.",
    ],
)
def test_a_model_that_sees_nothing_is_named(words: str) -> None:
    error = from_response(SERVER, "gpt-9", 400, {}, json.dumps({"error": {"message": words}}).encode())
    assert str(error).startswith("The model gpt-9 does not take images: ")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"message": "slow", "code": 429}, ModelRateLimited),
        ({"message": "slow", "code": "429"}, ModelRateLimited),
        ({"type": "rate_limit_error", "message": "slow"}, ModelRateLimited),
        ({"code": 429, "message": "no more", "type": "insufficient_quota"}, QuotaExhausted),
        ({"type": "overloaded_error", "message": "Overloaded"}, ModelUnavailable),
        ({"type": "server_error", "message": "The server had an error"}, ModelUnavailable),
        ({"code": 502, "message": "Provider returned error"}, ModelUnavailable),
        ({}, ModelUnavailable),
        ({"type": "invalid_request_error", "message": "bad tool"}, ModelRejected),
        ({"code": 400, "message": "maximum context length is 9"}, ContextOverflow),
        ("no such model", NoSuchModel),
    ],
)
def test_errors_inside_a_stream(value: object, kind: type[ModelError]) -> None:
    assert type(from_error_object(SERVER, "m", value)) is kind


def test_a_providers_words_are_made_fit_for_a_person() -> None:
    assert clean("a\x1b[31m\nb\t c") == "a [31m b c"
    assert clean("Bearer abcdefghijk failed") == "[hidden] failed"
    assert clean("Incorrect API key provided: sk-proj-a***b.") == "Incorrect API key provided: [hidden]"
    assert len(clean("x" * 5000)) == 300
