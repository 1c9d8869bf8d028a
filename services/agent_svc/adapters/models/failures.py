"""Turns what providers answer when they refuse or fail into ModelErrors with a sentence a person understands."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from agent_svc.domain.model import (
    ContextOverflow,
    ModelError,
    ModelProtocolError,
    ModelRateLimited,
    ModelRejected,
    ModelUnavailable,
)

_MAX_REASON = 300
_CREDENTIAL = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf)[-_][A-Za-z0-9_\-*.]{6,}|\bAIza[A-Za-z0-9_\-*]{6,}|\bBearer\s+\S{6,}"
)
_TAG = re.compile(r"<[^>]*>")
_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context[ _](?:window|length|size)"
    r"|prompt is too long|input is too long|too many (?:input )?tokens",
    re.IGNORECASE,
)
_QUOTA = re.compile(r"insufficient_quota|billing|credit balance|payment", re.IGNORECASE)
_RATE = re.compile(r"rate.?limit|too many requests", re.IGNORECASE)
_BUSY = re.compile(r"overloaded|server_error|internal|unavailable|timeout|api_error|bad gateway", re.IGNORECASE)


def clean(text: str) -> str:
    """A provider's words made fit for a log and a person: one line, printable, no markup, no credentials, 300 characters."""
    text = _CREDENTIAL.sub("[hidden]", _TAG.sub(" ", text[:4000]))
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 1].rstrip() + "…"


def quoted(payload: bytes) -> str:
    """The beginning of something unreadable, for a message."""
    return f"“{clean(payload[:80].decode('utf-8', 'replace'))}”"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as `retry-after-ms` or `Retry-After` (seconds or an HTTP date) say; None without a valid one."""
    value = headers.get("retry-after-ms", "")
    try:
        return max(0.0, float(value) / 1000)
    except ValueError:
        value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def from_response(server: str, model: str, status: int, headers: Mapping[str, str], body: bytes) -> ModelError:
    """The error of an HTTP answer that is not 200."""
    reason, code = _explain(body)
    if 300 <= status < 400:
        return ModelRejected(f"{server} redirects elsewhere (HTTP {status}): check the configured URL.", status=status)
    if status >= 500 and not _OVERFLOW.search(reason):
        return ModelUnavailable(
            _sentence(f"{server} failed (HTTP {status})", reason), retry_after_s=retry_after_s(headers)
        )
    if status == 408:
        return ModelUnavailable(_sentence(f"{server} gave up waiting (HTTP 408)", reason))
    if status == 429 and not _QUOTA.search(f"{code} {reason}"):
        return ModelRateLimited(_sentence(f"{server} asks to slow down", reason), retry_after_s=retry_after_s(headers))
    return _rejected(server, model, status, reason, code)


def from_error_object(server: str, model: str, error: object) -> ModelError:
    """The error that a server reports inside an answer that began well (an `error` object in the stream)."""
    reason, code, status = _explain_object(error)
    known = f"{code} {reason}"
    if status == 429 or (status < 400 and _RATE.search(known)):
        return ModelRateLimited(_sentence(f"{server} asks to slow down", reason))
    if _OVERFLOW.search(known):
        return _rejected(server, model, status, reason, code)
    if status >= 500 or (status < 400 and (_BUSY.search(known) or not reason)):
        return ModelUnavailable(_sentence(f"{server} failed while answering", reason))
    return _rejected(server, model, status, reason, code)


def garbage(server: str, detail: str) -> ModelProtocolError:
    """The server does not speak the protocol."""
    return ModelProtocolError(f"{server} sent something that is not a model's answer: {detail}.")


def broke_off(server: str) -> ModelProtocolError:
    """The stream ended before the answer did."""
    return ModelProtocolError(f"The answer of {_lower(server)} broke off in the middle.")


def _rejected(server: str, model: str, status: int, reason: str, code: str) -> ModelRejected:
    if _OVERFLOW.search(f"{code} {reason}"):
        message = _sentence(f"The conversation is too long for the context window of {model}", reason)
        return ContextOverflow(message, status=status, reason=reason)
    if status in (401, 403):
        what = f"{server} does not accept the configured API key (HTTP {status})"
    elif status == 404:
        what = f"{server} does not know the model {model}, or its URL is wrong (HTTP 404)"
    elif status == 429 or status == 402:
        what = f"The account at {_lower(server)} has no quota or credit left"
    else:
        what = f"{server} refused the request" + (f" (HTTP {status})" if status else "")
    return ModelRejected(_sentence(what, reason), status=status, reason=reason)


def _sentence(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else f"{what}."


def _lower(server: str) -> str:
    return server[0].lower() + server[1:] if server.startswith("The ") else server


def _explain(body: bytes) -> tuple[str, str]:
    """(reason, code) out of an error body of any shape."""
    try:
        value: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return clean(body.decode("utf-8", "replace")), ""
    if isinstance(value, list) and value:
        value = value[0]  # Gemini's compatible endpoint wraps the error in a list
    if isinstance(value, dict):
        for key in ("error", "detail", "message"):
            if value.get(key):
                reason, code, _ = _explain_object(value if key == "message" else value[key])
                return reason, code
    return clean(body.decode("utf-8", "replace")), ""


def _explain_object(error: object) -> tuple[str, str, int]:
    """(reason, code, HTTP status or 0) out of an error object, a text, or FastAPI's list of violations."""
    if isinstance(error, list):
        error = error[0] if error else ""
    if not isinstance(error, dict):
        return clean(str(error)), "", 0
    fields: dict[str, Any] = error
    code = fields.get("code")
    status = code if isinstance(code, int) and 100 <= code <= 599 else 0
    names = [str(fields[key]) for key in ("code", "type", "status") if isinstance(fields.get(key), str)]
    reason = fields.get("message") or fields.get("msg") or fields.get("error") or ""
    if isinstance(fields.get("loc"), list):
        reason = f"{reason} ({'.'.join(map(str, fields['loc']))})"
    metadata = fields.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        reason = f"{reason} ({metadata['raw']})"  # OpenRouter: what the provider behind it said
    return clean(str(reason)), " ".join(names), status
