"""What gRPC raises, as a HearthError with what google.rpc.Status says of it."""

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from hearth_client.errors import BY_CODE, UNREACHABLE, FieldViolation, HearthError, InternalError, UnavailableError

_DETAILS_KEY = "grpc-status-details-bin"

# Hearth explains every failure of its own with details. These codes without details come from a connection that broke, or from a proxy
# that did not get through.
_BROKEN_CONNECTION = frozenset({"UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN"})

_REASON_WITHOUT_DETAILS = {
    "UNAUTHENTICATED": "TOKEN_INVALID",
    "PERMISSION_DENIED": "ROLE_INSUFFICIENT",
    "RESOURCE_EXHAUSTED": "RATE_LIMITED",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "UNIMPLEMENTED": "METHOD_UNKNOWN",
}


def from_rpc_error(error: grpc.aio.AioRpcError) -> HearthError:
    """The error that the server (or what stands before it) meant."""
    code = error.code().name
    status = _details(error)
    message = (status.message if status is not None else "") or error.details() or ""
    if status is None or not status.details:
        return _without_details(code, message, answered=bool(error.trailing_metadata() or error.initial_metadata()))
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    has_retry = False
    for detail in status.details:
        has_retry = detail.Unpack(retry) or has_retry
        _ = detail.Unpack(info) or detail.Unpack(bad)
    return BY_CODE.get(code, InternalError)(
        message or code,
        reason=info.reason,
        metadata=dict(info.metadata),
        field_violations=[FieldViolation(v.field, v.description) for v in bad.field_violations],
        retry_after_s=retry.retry_delay.ToTimedelta().total_seconds() if has_retry else None,
    )


def _details(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _without_details(code: str, message: str, *, answered: bool) -> HearthError:
    if code in _BROKEN_CONNECTION:
        if answered:
            return UnavailableError(f"the service does not answer: {message or code}", reason="DEPENDENCY_UNAVAILABLE")
        return UnavailableError(message or "the connection broke", reason=UNREACHABLE)
    reason = _REASON_WITHOUT_DETAILS.get(code, "")
    if code == "UNAUTHENTICATED" and "expired" in message.lower():
        # Envoy's own check: "Jwt is expired".
        reason = "TOKEN_EXPIRED"
    return BY_CODE.get(code, InternalError)(message or code, reason=reason)
