"""Refusals and failures of providers become errors with a sentence for a person."""

from __future__ import annotations

import email.utils
import time

import pytest

from agent_svc.adapters.models.failures import clean, from_error_object, from_response, retry_after_s
from agent_svc.domain.model import (
    ContextOverflow,
    ModelError,
    ModelRateLimited,
    ModelRejected,
    ModelUnavailable,
)

SERVER = "The model server at http://h/v1"


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (500, b"", ModelUnavailable, "failed (HTTP 500)."),
        (503, b"<html><h1>Overloaded</h1></html>", ModelUnavailable, "failed (HTTP 503): Overloaded"),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', ModelUnavailable, "529"),
        (408, b"", ModelUnavailable, "gave up waiting"),
        (429, b'{"error":{"message":"Too many requests","code":"rate_limit"}}', ModelRateLimited, "asks to slow down"),
        (429, b'{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}', ModelRejected, "quota"),
        (402, b"", ModelRejected, "no quota or credit left"),
        (401, b'{"error":{"message":"Incorrect API key provided: sk-abc***xyz."}}', ModelRejected, "[hidden]"),
        (404, b'{"error":{"message":"The model `x` does not exist"}}', ModelRejected, "does not know the model gpt-9"),
        (404, b'{"detail":"Not Found"}', ModelRejected, "or its URL is wrong (HTTP 404): Not Found"),
        (302, b"", ModelRejected, "redirects elsewhere"),
        (
            422,
            b'{"detail":[{"loc":["body","top_k"],"msg":"Extra inputs"}]}',
            ModelRejected,
            "Extra inputs (body.top_k)",
        ),
        (400, b'[{"error":{"code":400,"message":"API key not valid"}}]', ModelRejected, "API key not valid"),
        (400, b'{"error":{"message":"too long","code":"context_length_exceeded"}}', ContextOverflow, "too long"),
        (400, b'{"error":{"type":"exceed_context_size_error","message":"5 > 4"}}', ContextOverflow, "context window"),
        (400, b'{"error":{"message":"prompt is too long: 210000 tokens > 200000"}}', ContextOverflow, "gpt-9"),
        (500, b'{"error":"the input exceeds the context window"}', ContextOverflow, "gpt-9"),
        (400, b"\xff\xfe garbage \x00", ModelRejected, "refused the request (HTTP 400)"),
        (400, b"[" * 5000, ModelRejected, "refused the request"),
    ],
)
def test_http_errors(status: int, body: bytes, kind: type[ModelError], says: str) -> None:
    error = from_response(SERVER, "gpt-9", status, {}, body)
    assert type(error) is kind
    assert says in str(error)
    assert error.retryable is issubclass(kind, (ModelUnavailable, ModelRateLimited))
    assert "sk-abc" not in str(error)
    assert len(str(error)) < 450


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"message": "slow", "code": 429}, ModelRateLimited),
        ({"type": "rate_limit_error", "message": "slow"}, ModelRateLimited),
        ({"type": "overloaded_error", "message": "Overloaded"}, ModelUnavailable),
        ({"type": "server_error", "message": "The server had an error"}, ModelUnavailable),
        ({}, ModelUnavailable),
        ({"type": "invalid_request_error", "message": "bad tool"}, ModelRejected),
        ({"code": 400, "message": "maximum context length is 9"}, ContextOverflow),
        ("no such model", ModelRejected),
    ],
)
def test_errors_inside_a_stream(value: object, kind: type[ModelError]) -> None:
    assert type(from_error_object(SERVER, "m", value)) is kind


def test_the_wait_that_a_server_asks_for_is_read_in_all_its_forms() -> None:
    in_ten = email.utils.formatdate(time.time() + 10, usegmt=True)
    assert retry_after_s({"Retry-After": "7"}) == 7
    assert retry_after_s({"retry-after-ms": "1500"}) == 1.5
    assert retry_after_s({"Retry-After": in_ten}) == pytest.approx(10, abs=2)
    assert retry_after_s({"Retry-After": "-3"}) == 0
    for nonsense in ("", "soon", "inf", "nan", "Mon, 99 Foo"):
        assert retry_after_s({"Retry-After": nonsense}) is None
    limited = from_response(SERVER, "m", 429, {"Retry-After": "7"}, b"")
    assert isinstance(limited, ModelRateLimited)
    assert limited.retry_after_s == 7


def test_a_providers_words_are_made_fit_for_a_person() -> None:
    assert clean("a\x1b[31m\nb\t c") == "a [31m b c"
    assert clean("Bearer abcdefghijk failed") == "[hidden] failed"
    assert clean("Incorrect API key provided: sk-proj-a***b.") == "Incorrect API key provided: [hidden]"
    assert len(clean("x" * 5000)) == 300
