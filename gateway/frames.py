"""The frames that the server sends, as bytes; what several clients get alike is encoded once and only headed per client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from chassis.errors import DomainError
from gateway.interfaces import EncodedDelta, EncodedEvent
from gateway.protocol import (
    MAX_SUBSCRIPTIONS,
    PING_SECONDS,
    WINDOW,
    CloseCode,
)

PING: Final = b'{"type":"ping"}'
PONG: Final = b'{"type":"pong"}'


def welcome(number: int | None, session: str, token_expires: str) -> bytes:
    """The session is open; `number` is None when the credential came with the upgrade."""
    frame: dict[str, object] = {"type": "welcome"}
    if number is not None:
        frame["id"] = number
    frame |= {
        "session": session,
        "ping_ms": int(PING_SECONDS * 1000),
        "max_subscriptions": MAX_SUBSCRIPTIONS,
        "window": WINDOW,
        "token_expires": token_expires,
    }
    return orjson.dumps(frame)


def ok(number: int, fields: Mapping[str, object] | None = None) -> bytes:
    """The request succeeded."""
    return orjson.dumps({"type": "ok", "id": number, **(fields or {})})


def result(number: int, encoded: bytes) -> bytes:
    """A call's result, which is JSON already."""
    return b'{"type":"ok","id":%d,"result":%b}' % (number, encoded)


def error(number: int | None, problem: DomainError) -> bytes:
    """The request, or a frame without a usable id, failed."""
    frame: dict[str, object] = {"type": "error"}
    if number is not None:
        frame["id"] = number
    return orjson.dumps(frame | _error_fields(problem))


def plain_error(problem: DomainError) -> bytes:
    """The same error as the body of an HTTP answer."""
    return orjson.dumps(_error_fields(problem))


def head(kind: str, sub: str) -> bytes:
    """What precedes an encoded body for one subscription; `kind` is the frame's type."""
    return orjson.dumps({"type": kind, "sub": sub})[:-1] + b","


def event_body(seq: int, time: str, run_id: str, name: str, data: Any) -> EncodedEvent:
    """An event, encoded once for everyone."""
    fields = {"seq": seq, "time": time, "run_id": run_id, "event": name, "data": data}
    return EncodedEvent(seq=seq, body=_tail(fields))


def omitted_event_body(seq: int, time: str, run_id: str, name: str) -> EncodedEvent:
    """An event too large for a frame: the client reads the message by a call."""
    fields = {"seq": seq, "time": time, "run_id": run_id, "event": name, "data": None, "omitted": "too_large"}
    return EncodedEvent(seq=seq, body=_tail(fields))


def delta_body(kind: str, fields: Mapping[str, object]) -> EncodedDelta:
    """A delta, snapshot or checkpoint, encoded once for everyone."""
    return EncodedDelta(kind=kind, body=_tail(fields))


def reset(sub: str, reason: str) -> bytes:
    """The subscription is over because continuing would leave a gap: reload, then subscribe again."""
    return orjson.dumps({"type": "reset", "sub": sub, "reason": reason})


def end(sub: str, reason: str, problem: DomainError | None = None) -> bytes:
    """The subscription is over."""
    frame: dict[str, object] = {"type": "end", "sub": sub, "reason": reason}
    if problem is not None:
        frame["error"] = _error_fields(problem)
    return orjson.dumps(frame)


def auth_expiring(token_expires: str) -> bytes:
    """Send `auth` with a fresh token before this time."""
    return orjson.dumps({"type": "auth_expiring", "token_expires": token_expires})


def closing(code: CloseCode, message: str, retry_after_ms: int) -> bytes:
    """The last frame before the server closes."""
    return orjson.dumps(
        {
            "type": "closing",
            "code": int(code),
            "reason": code.name,
            "message": message,
            "reconnect": code.reconnect,
            "retry_after_ms": retry_after_ms,
        }
    )


def _error_fields(problem: DomainError) -> dict[str, object]:
    fields: dict[str, object] = {
        "code": problem.code,
        "reason": problem.reason,
        "message": problem.message,
        "metadata": problem.metadata,
    }
    if problem.field_violations:
        fields["field_violations"] = [
            {"field": violation.field, "description": violation.description} for violation in problem.field_violations
        ]
    if problem.retry_after_s is not None:
        fields["retry_after_ms"] = int(problem.retry_after_s * 1000)
    return fields


def _tail(fields: Mapping[str, object]) -> bytes:
    return orjson.dumps(fields)[1:]
