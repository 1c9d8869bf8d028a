"""Turns what providers answer when they refuse or fail into ModelErrors with a sentence a person understands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from agent_svc.adapters.models.waiting import duration_s, retry_after_s
from agent_svc.domain.model import (
    AnswerWithheld,
    ContextOverflow,
    KeyRefused,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelUnavailable,
    NoSuchModel,
    QuotaExhausted,
)

_MAX_REASON = 300
_CREDENTIAL = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf)[-_][A-Za-z0-9_\-*.]{6,}|\bAIza[A-Za-z0-9_\-*]{6,}|\bBearer\s+\S{6,}"
)
_TAG = re.compile(r"<[^>]*>")
# How providers word it: OpenAI, Azure, Anthropic, Google, Mistral, Cohere, Groq, OpenRouter, vLLM, llama.cpp, Ollama, LM Studio.
_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|model_max_prompt_tokens|string_above_max_length"
    r"|(?:maximum|max) (?:context|model|prompt|sequence|input) ?(?:length|size|window)|context[ _-](?:window|length|size|limit)"
    r"|(?:prompt|input|request|conversation|message)s? (?:is|are|was|were) (?:too (?:long|large)|longer than)"
    r"|too many (?:input |total |prompt )?tokens|token count .{0,40}exceeds|exceeds? the (?:maximum|max(?:imum)? number of|allowed|limit of) "
    r"(?:number of )?(?:input |prompt )?tokens|tokens? .{0,30}exceeds? .{0,30}(?:limit|maximum|context)|reduce the length of",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"insufficient[_ ](?:quota|balance|credits|funds)|billing|credit balance|payment|out of credits|requires more credits"
    r"|quota[_ ]exhausted|spending limit|hard limit|exceeded your (?:current|monthly) (?:quota|limit|budget)",
    re.IGNORECASE,
)
_WITHHELD = re.compile(
    r"content[_ ](?:filter|policy|management|moderation)|responsible ?ai|safety (?:system|policy|filter|reasons)|moderation"
    r"|flagged|prohibited[_ ]content|usage policies|usage policy violation",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"(?:invalid|incorrect|missing|expired|wrong|bad|no) (?:x-)?api[ _-]?key|api[ _-]?key (?:not valid|is invalid|expired|not found)"
    r"|api_key_invalid|invalid_api_key|authentication_error|unauthenticated|no auth credentials|user not found",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_not_found|model_decommissioned|not a valid model|invalid model|unknown model|no such model|model .{0,120}(?:does not exist"
    r"|not found|is not found|not exist|not supported for|is not available|has been (?:deprecated|decommissioned|retired))"
    r"|no endpoints found|unknown_model|not_found_error.{0,20}model",
    re.IGNORECASE,
)
_NO_IMAGES = re.compile(
    r"image(?:s|_url)?\b.{0,60}(?:not support|unsupported|not allowed|not enabled|are not|cannot|no endpoints)"
    r"|(?:not support|unsupported|no endpoints found that support).{0,60}(?:image|vision|multimodal)|not a (?:vision|multimodal) model"
    r"|mmproj|at most 0 image",
    re.IGNORECASE,
)
_RATE = re.compile(r"rate.?limit|too many requests|resource.?exhausted", re.IGNORECASE)
_BUSY = re.compile(r"overloaded|server_error|internal|unavailable|timeout|api_error|bad gateway", re.IGNORECASE)
_PASSING = (408, 409, 425)


@dataclass(frozen=True, slots=True)
class _Said:
    """What an error body says: `code` is all its names for the error, `status` its own HTTP status or 0."""

    reason: str = ""
    code: str = ""
    status: int = 0
    wait_s: float | None = None

    @property
    def all(self) -> str:
        return f"{self.code} {self.reason}"


def clean(text: str) -> str:
    """A provider's words made fit for a log and a person: one line, printable, no markup, no credentials, 300 characters."""
    text = _CREDENTIAL.sub("[hidden]", _TAG.sub(" ", text[:4000]))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1].rstrip() + "…"


def quoted(payload: bytes) -> str:
    """The beginning of something unreadable, for a message."""
    return f"“{clean(payload[:80].decode('utf-8', 'replace'))}”"


def from_response(server: str, model: str, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """The error of an HTTP answer that is not 200."""
    said = _explain(body)
    if 300 <= status < 400:
        return ModelRejected(f"{server} redirects elsewhere (HTTP {status}): check the configured URL.", status=status)
    wait_s = retry_after_s(headers, said.reason)
    if wait_s is None:
        wait_s = said.wait_s
    if status >= 500 and not _OVERFLOW.search(said.reason):
        return ModelUnavailable(_sentence(f"{server} failed (HTTP {status})", said.reason), retry_after_s=wait_s)
    if status in _PASSING:
        return ModelUnavailable(
            _sentence(f"{server} gave up for now (HTTP {status})", said.reason), retry_after_s=wait_s
        )
    if status == 429 and not _QUOTA.search(said.all):
        return ModelRateLimited(_sentence(f"{server} asks to slow down", said.reason), retry_after_s=wait_s)
    return _rejected(server, model, status, said)


def from_error_object(server: str, model: str, error: object) -> ModelError:
    """The error that a server reports inside an answer that began well (an `error` object in the stream)."""
    said = _explain_object(error)
    status = said.status
    if (status == 429 or (status < 400 and _RATE.search(said.all))) and not _QUOTA.search(said.all):
        wait_s = retry_after_s({}, said.reason) if said.wait_s is None else said.wait_s
        return ModelRateLimited(_sentence(f"{server} asks to slow down", said.reason), retry_after_s=wait_s)
    if _OVERFLOW.search(said.all):
        return _rejected(server, model, status, said)
    if status >= 500 or status in _PASSING or (status < 400 and (_BUSY.search(said.all) or not said.reason)):
        return ModelUnavailable(_sentence(f"{server} failed while answering", said.reason))
    return _rejected(server, model, status, said)


def garbage(server: str, detail: str) -> ModelProtocolError:
    """The server does not speak the protocol."""
    return ModelProtocolError(f"{server} sent something that is not a model's answer: {detail}.")


def broke_off(server: str) -> ModelProtocolError:
    """The stream ended before the answer did."""
    return ModelProtocolError(f"The answer of {_lower(server)} broke off in the middle.")


def _rejected(server: str, model: str, status: int, said: _Said) -> ModelRejected:
    kind, what = _refusal(server, model, status, said)
    return kind(_sentence(what, said.reason), status=status, reason=said.reason)


def _refusal(server: str, model: str, status: int, said: _Said) -> tuple[type[ModelRejected], str]:
    """Which refusal it is, and the beginning of the sentence about it."""
    if _OVERFLOW.search(said.all):
        return ContextOverflow, f"The conversation is too long for the context window of {model}"
    if status == 402 or _QUOTA.search(said.all):
        return QuotaExhausted, f"The account at {_lower(server)} has no quota or credit left"
    if _NO_IMAGES.search(said.reason):
        return ModelRejected, f"The model {model} does not take images"
    if status == 401 or _KEY.search(said.all):
        return KeyRefused, f"{server} does not accept the configured API key" + _in_brackets(status)
    if _NO_MODEL.search(said.all):
        return NoSuchModel, f"{server} does not know the model {model}" + _in_brackets(status)
    if _WITHHELD.search(said.all):
        return AnswerWithheld, f"{server} withheld the answer by its content rules"
    if status == 403:
        return KeyRefused, f"{server} does not let the configured API key use {model} (HTTP 403)"
    if status == 404:
        return NoSuchModel, f"{server} does not know the model {model}, or its URL is wrong (HTTP 404)"
    return ModelRejected, f"{server} refused the request" + _in_brackets(status)


def _in_brackets(status: int) -> str:
    return f" (HTTP {status})" if status else ""


def _sentence(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else f"{what}."


def _lower(server: str) -> str:
    return server[0].lower() + server[1:] if server.startswith("The ") else server


def _explain(body: bytes) -> _Said:
    """What an error body of any shape says."""
    try:
        value: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return _Said(clean(body.decode("utf-8", "replace")))
    if isinstance(value, list) and value:
        value = cast("list[Any]", value)[0]  # Gemini's compatible endpoint wraps the error in a list
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        for key in ("error", "detail", "message"):
            if fields.get(key):
                return _explain_object(fields if key == "message" else fields[key])
    return _Said(clean(body.decode("utf-8", "replace")))


def _explain_object(error: object) -> _Said:
    """The same of an error object, a text, or FastAPI's list of violations."""
    if isinstance(error, list):
        violations = cast("list[Any]", error)
        error = violations[0] if violations else ""
    if not isinstance(error, dict):
        return _Said(clean(str(error)))
    fields = cast("dict[str, Any]", error)
    code = fields.get("code")
    status = int(code) if isinstance(code, int) or (isinstance(code, str) and code.isdigit()) else 0
    names = [str(fields[key]) for key in ("code", "type", "status") if isinstance(fields.get(key), str)]
    reason = fields.get("message") or fields.get("msg") or fields.get("error") or ""
    if isinstance(place := fields.get("loc"), list):
        reason = f"{reason} ({'.'.join(map(str, cast('list[Any]', place)))})"
    metadata = fields.get("metadata")
    wait_s = _wait_in_details(fields.get("details"))
    if isinstance(metadata, dict):  # OpenRouter: what the provider behind it said, and the headers of its refusal
        behind = cast("dict[str, Any]", metadata)
        if isinstance(behind.get("raw"), str):
            reason = f"{reason} ({behind['raw']})"
        if isinstance(behind.get("headers"), dict):
            wait_s = retry_after_s({str(k): str(v) for k, v in behind["headers"].items()})
    return _Said(clean(str(reason)), " ".join(names), status if 100 <= status <= 599 else 0, wait_s)


def _wait_in_details(details: object) -> float | None:
    """Google's RetryInfo."""
    for detail in cast("list[Any]", details) if isinstance(details, list) else ():
        if isinstance(detail, dict):
            delay = cast("dict[str, Any]", detail).get("retryDelay")
            if isinstance(delay, str):
                return duration_s(delay)
    return None
