"""What a call can raise: one class per gRPC code, so that `except` says what it means.

    HearthError
    ├── InvalidArgumentError       the request breaks a rule; `field_violations` names the fields
    ├── UnauthenticatedError       no credential, or one that is not good (any more)
    ├── PermissionDeniedError      the credential's role does not reach
    ├── NotFoundError              no such resource in the caller's organization
    ├── AlreadyExistsError         the name is taken
    ├── FailedPreconditionError    not in the state that the call needs
    ├── AbortedError               somebody else was faster: read again and retry
    ├── OutOfRangeError            beyond the end
    ├── ResourceExhaustedError     too much; `retry_after_s` says when to come back
    ├── DeadlineExceededError      took longer than its deadline
    ├── UnavailableError           no answer, after the client's own retries
    ├── UnimplementedError         the server does not have this
    └── InternalError              a fault of Hearth; `metadata["error_id"]` finds it in the logs

`reason` is the name of a `hearth.type.v1.ErrorReason` without its prefix, or UNREACHABLE when nothing answered at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNREACHABLE = "UNREACHABLE"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that breaks a rule. `field` is its path, as `agent.settings.max_steps`."""

    field: str
    description: str


class HearthError(Exception):
    """A call failed. `retry_after_s` is in seconds; None if the server did not say."""

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.field_violations = tuple(field_violations)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        fields = "; ".join(f"{v.field}: {v.description}" for v in self.field_violations)
        # A server that put the fields into its message has said it all.
        detail = f": {fields}" if fields and self.field_violations[0].description not in self.message else ""
        return f"{self.message}{detail} ({self.reason or self.code})"


class InvalidArgumentError(HearthError):
    """The request breaks a rule."""

    code = "INVALID_ARGUMENT"


class UnauthenticatedError(HearthError):
    """No credential, or one that is not good."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(HearthError):
    """The credential's role does not reach."""

    code = "PERMISSION_DENIED"


class NotFoundError(HearthError):
    """No such resource in the caller's organization."""

    code = "NOT_FOUND"


class AlreadyExistsError(HearthError):
    """The name is taken."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(HearthError):
    """Not in the state that the call needs."""

    code = "FAILED_PRECONDITION"


class AbortedError(HearthError):
    """Somebody else was faster: read again and retry."""

    code = "ABORTED"


class OutOfRangeError(HearthError):
    """Beyond the end."""

    code = "OUT_OF_RANGE"


class ResourceExhaustedError(HearthError):
    """Too much of something."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceededError(HearthError):
    """The call took longer than its deadline."""

    code = "DEADLINE_EXCEEDED"


class UnavailableError(HearthError):
    """No answer, after the client's own retries."""

    code = "UNAVAILABLE"


class UnimplementedError(HearthError):
    """The server does not have this."""

    code = "UNIMPLEMENTED"


class InternalError(HearthError):
    """A fault of Hearth."""

    code = "INTERNAL"


_CLASSES: tuple[type[HearthError], ...] = (
    InvalidArgumentError,
    UnauthenticatedError,
    PermissionDeniedError,
    NotFoundError,
    AlreadyExistsError,
    FailedPreconditionError,
    AbortedError,
    OutOfRangeError,
    ResourceExhaustedError,
    DeadlineExceededError,
    UnavailableError,
    UnimplementedError,
    InternalError,
)
BY_CODE: Mapping[str, type[HearthError]] = {kind.code: kind for kind in _CLASSES}
