"""DomainError ⇄ google.rpc.Status: how errors look on the wire, and how they look to who called."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from chassis import errors

DOMAIN = "hearth.dev"
DETAILS_KEY = "grpc-status-details-bin"

Metadata = Sequence[tuple[str, str | bytes]]

# gRPC peers refuse headers of more than 16 KiB in all, some of more than 8, and then nobody learns what was wrong. In bytes;
# a message may triple when it is percent-encoded, details grow by a third.
_MESSAGE_LIMIT = 1_000
_VALUE_LIMIT = 200
_VIOLATIONS_LIMIT = 2_000

_CODES = {code.name: code for code in grpc.StatusCode}

# What an answer without our details means: it came from a proxy, or from gRPC itself.
_DEFAULT_REASONS = {
    "UNAVAILABLE": "DEPENDENCY_UNAVAILABLE",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED": "NOT_IMPLEMENTED",
    "RESOURCE_EXHAUSTED": "RATE_LIMITED",
    "UNAUTHENTICATED": "TOKEN_INVALID",
    "PERMISSION_DENIED": "ROLE_INSUFFICIENT",
    "NOT_FOUND": "RESOURCE_NOT_FOUND",
    "INVALID_ARGUMENT": "VALIDATION_FAILED",
}


def to_proto(error: errors.DomainError) -> status_pb2.Status:
    """The error as google.rpc.Status with one ErrorInfo, and BadRequest and RetryInfo where they apply.

    Texts that hold what a caller sent are cut, and of many violations the first are told, so that it fits into headers.
    """
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=_cut(error.message, _MESSAGE_LIMIT))
    metadata = {key: _cut(value, _VALUE_LIMIT) for key, value in error.metadata.items()}
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason, metadata=metadata))
    if error.field_violations:
        status.details.add().Pack(_bad_request(error.field_violations))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def _bad_request(violations: Sequence[errors.FieldViolation]) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in violations:
        one = bad.field_violations.add(
            field=_cut(violation.field, _VALUE_LIMIT),
            description=_cut(violation.description, _VALUE_LIMIT),
            reason=violation.rule.upper(),
        )
        if bad.ByteSize() > _VIOLATIONS_LIMIT:
            bad.field_violations.remove(one)
            break
    return bad


def _cut(text: str, limit: int) -> str:
    """The beginning of a text, at most `limit` bytes of UTF-8, an ellipsis in the place of what is left out."""
    if len(text) <= limit // 4 or len(raw := text.encode()) <= limit:
        return text
    return raw[: limit - 3].decode(errors="ignore") + "…"


def to_wire(error: errors.DomainError) -> tuple[grpc.StatusCode, str, Metadata]:
    """What `context.abort` takes: code, message, trailing metadata."""
    status = to_proto(error)
    return _CODES[error.code], status.message, ((DETAILS_KEY, status.SerializeToString()),)


def from_proto(status: status_pb2.Status) -> errors.DomainError:
    """The error that a Status stands for. Codes that we never raise become Internal."""
    name = (
        code_pb2.Code.Name(code_pb2.Code.ValueType(status.code)) if status.code in code_pb2.Code.values() else "UNKNOWN"
    )
    return _build(name, status.message, status)


def from_rpc_error(error: grpc.RpcError) -> errors.DomainError:
    """The DomainError that another service raised, with its reason and metadata; for the code in clients/.

    CANCELLED becomes Unavailable: our own cancellation arrives as asyncio.CancelledError, so the other side went away.
    """
    code: grpc.StatusCode = error.code()
    status = _details(error.trailing_metadata() or ())
    name = "UNAVAILABLE" if code is grpc.StatusCode.CANCELLED else code.name
    return _build(name, status.message or error.details() or "", status)


def _details(trailing: Any) -> status_pb2.Status:
    """The Status in trailing metadata, an empty one when there is none that can be read."""
    for key, value in trailing:
        if key == DETAILS_KEY and isinstance(value, bytes):
            with suppress(DecodeError):
                return status_pb2.Status.FromString(value)
    return status_pb2.Status()


def _build(code: str, message: str, status: status_pb2.Status) -> errors.DomainError:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    has_retry = False
    for detail in status.details:
        # Unpack leaves a message of another type alone and says so.
        has_retry |= detail.Unpack(retry)
        _ = detail.Unpack(info) or detail.Unpack(bad)
    kind = errors.BY_CODE.get(code, errors.Internal)
    if not info.reason and kind in (errors.Unavailable, errors.DeadlineExceeded, errors.Internal):
        # The text of a proxy or of gRPC names addresses; it is not for our callers.
        message = {"UNAVAILABLE": "a service that is needed does not answer"}.get(code, "the call took too long")
        message = "a service that is needed failed" if kind is errors.Internal else message
    return kind(
        message,
        reason=info.reason or _DEFAULT_REASONS.get(code, "INTERNAL"),
        metadata=dict(info.metadata),
        field_violations=[
            errors.FieldViolation(v.field, v.description, v.reason.lower()) for v in bad.field_violations
        ],
        retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9 if has_retry else None,
    )
