"""The `hearth.v1` messages a client may send, their limits and the close codes; PROTOCOL.md is the normative text."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

SUBPROTOCOL: Final = "hearth.v1"
MAX_INBOUND_BYTES: Final = 256 * 1024
MAX_OUTBOUND_BYTES: Final = 1024 * 1024
MAX_SUBSCRIPTIONS: Final = 64
MAX_CALLS: Final = 16
WINDOW: Final = 256
PING_SECONDS: Final = 25.0
HELLO_SECONDS: Final = 5.0
STALL_SECONDS: Final = 10.0
AUTH_NOTICE_SECONDS: Final = 60.0
MAX_TIMEOUT_MS: Final = 60_000
MAX_INTEGER: Final = 2**63 - 1
_MAX_REQUEST_NUMBER: Final = 2**53 - 1
_MAX_ECHO: Final = 200


class CloseCode(enum.IntEnum):
    """44xx: the client's doing, not to be retried unchanged; 45xx: ours, reconnect with backoff."""

    NORMAL = 1000
    BAD_FRAME = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    SUBPROTOCOL = 4406
    HELLO_TIMEOUT = 4408
    TOO_LARGE = 4413
    TOO_MANY = 4429
    INTERNAL = 4500
    DRAINING = 4503
    PEER_SILENT = 4504

    @property
    def reconnect(self) -> bool:
        """Whether the same client may try again unchanged."""
        return self >= CloseCode.INTERNAL


RequestNumber = Annotated[int, msgspec.Meta(ge=1, le=_MAX_REQUEST_NUMBER)]
SubscriptionName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
Token = Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class ClientInfo(msgspec.Struct, gc=False):
    """Who the client says it is; logged, never trusted."""

    name: Annotated[str, msgspec.Meta(max_length=64)] = ""
    version: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Hello(msgspec.Struct, tag="hello", gc=False):
    """The first message of a client that could not send an Authorization header."""

    id: RequestNumber
    token: Token
    client: ClientInfo | None = None


class Auth(msgspec.Struct, tag="auth", gc=False):
    """A fresh token for the open session."""

    id: RequestNumber
    token: Token


class Call(msgspec.Struct, tag="call", gc=False):
    """One unary RPC; `params` stays undecoded until the method is known."""

    id: RequestNumber
    method: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    params: msgspec.Raw = msgspec.Raw(b"{}")
    request_id: Annotated[str, msgspec.Meta(max_length=64)] = ""
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=MAX_TIMEOUT_MS)] = 10_000


class Subscribe(msgspec.Struct, tag="subscribe", gc=False):
    """Follow a topic from the event after `after_seq`: 0 is the whole log, absent is from now on."""

    id: RequestNumber
    sub: SubscriptionName
    topic: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    after_seq: Seq | None = None


class Unsubscribe(msgspec.Struct, tag="unsubscribe", gc=False):
    """Stop following; nothing of this name is sent after the answer."""

    id: RequestNumber
    sub: SubscriptionName


class Ack(msgspec.Struct, tag="ack", gc=False):
    """Everything up to `seq` has been handled: opens the window again."""

    sub: SubscriptionName
    seq: Seq


class Ping(msgspec.Struct, tag="ping", gc=False):
    """The client asks whether the server is there."""


class Pong(msgspec.Struct, tag="pong", gc=False):
    """The client answers a ping."""


Inbound = Hello | Auth | Call | Subscribe | Unsubscribe | Ack | Ping | Pong
Request = Hello | Auth | Call | Subscribe | Unsubscribe
_KNOWN_TYPES: Final = frozenset({"hello", "auth", "call", "subscribe", "unsubscribe", "ack", "ping", "pong"})


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Not a frame of this protocol at all: the socket is closed with BAD_FRAME."""

    message: str


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A frame whose type or fields are wrong: answered by an `error`, the session goes on."""

    message: str
    reason: str
    id: int | None
    type: str


class _Envelope(msgspec.Struct, gc=False):
    type: str
    id: msgspec.Raw = msgspec.Raw(b"null")


_decoder: Final = msgspec.json.Decoder(Inbound)
_envelope_decoder: Final = msgspec.json.Decoder(_Envelope)
_number_decoder: Final = msgspec.json.Decoder(RequestNumber)


def parse(data: bytes) -> Inbound | BadMessage | BadFrame:
    """Decode one text frame; never raises."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _explain(data, error)


def _explain(data: bytes, error: Exception) -> BadMessage | BadFrame:
    """Tell a wrong message (has a type: answerable) from what is not a frame of ours."""
    try:
        envelope = _envelope_decoder.decode(data)
    except RecursionError:
        return BadFrame("nested too deeply")
    except (msgspec.DecodeError, UnicodeDecodeError) as reason:
        return BadFrame(f"not a JSON object with a string `type`: {_printable(reason)}")
    number = _number(envelope.id)
    if isinstance(error, RecursionError):
        return BadFrame("nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        return BadFrame("not valid UTF-8")
    if envelope.type not in _KNOWN_TYPES:
        return BadMessage("unknown message type", "VALIDATION_FAILED", number, _echo(envelope.type))
    return BadMessage(_printable(error), "VALIDATION_FAILED", number, envelope.type)


def _number(raw: msgspec.Raw) -> int | None:
    try:
        return _number_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _printable(error: Exception) -> str:
    return _echo(str(error))


def _echo(text: str) -> str:
    """What a client sent goes back to it cut short and always encodable."""
    return text[:_MAX_ECHO].encode("utf-8", "replace").decode("utf-8")
