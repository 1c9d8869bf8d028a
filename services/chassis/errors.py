"""The errors that business code raises. One class per gRPC code, without importing gRPC.

DomainError
├── InvalidArgument      ├── NotFound            ├── OutOfRange
├── Unauthenticated      ├── AlreadyExists       ├── ResourceExhausted
├── PermissionDenied     ├── FailedPrecondition  ├── DeadlineExceeded
├── Aborted              ├── Unavailable         └── Unimplemented
└── Internal             what another service answered with, and nothing else
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that breaks a rule. `field` is its path, as in `user.email`."""

    field: str
    description: str
    rule: str = ""


class DomainError(Exception):
    """An answer other than OK. `message` is read by people and must hold no secret.

    `reason` names a hearth.type.v1.ErrorReason without its prefix; `retry_after_s` says when retrying may help.
    """

    code = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        metadata: Mapping[str, str] = _NOTHING,
        field_violations: Sequence[FieldViolation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata)
        self.field_violations = tuple(field_violations)
        self.retry_after_s = retry_after_s


class InvalidArgument(DomainError):
    """What was asked can never be right."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(DomainError):
    """No credential, or not a good one."""

    code = "UNAUTHENTICATED"


class PermissionDenied(DomainError):
    """The credential is good and does not reach so far."""

    code = "PERMISSION_DENIED"


class NotFound(DomainError):
    """No such thing in the caller's organization."""

    code = "NOT_FOUND"


class AlreadyExists(DomainError):
    """The name is taken."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(DomainError):
    """The state of things forbids it; retrying alone does not help."""

    code = "FAILED_PRECONDITION"


class Aborted(DomainError):
    """Someone else was faster: read again and retry."""

    code = "ABORTED"


class OutOfRange(DomainError):
    """Beyond the end."""

    code = "OUT_OF_RANGE"


class ResourceExhausted(DomainError):
    """A limit is reached; set `retry_after_s`."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(DomainError):
    """It took too long."""

    code = "DEADLINE_EXCEEDED"


class Unavailable(DomainError):
    """Something needed does not answer. The only error that clients retry blindly."""

    code = "UNAVAILABLE"


class Unimplemented(DomainError):
    """Designed, not built."""

    code = "UNIMPLEMENTED"


class Internal(DomainError):
    """A fault. Never raised by business code: an unexpected exception becomes one at the server's edge."""

    code = "INTERNAL"


BY_CODE: Mapping[str, type[DomainError]] = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            InvalidArgument,
            Unauthenticated,
            PermissionDenied,
            NotFound,
            AlreadyExists,
            FailedPrecondition,
            Aborted,
            OutOfRange,
            ResourceExhausted,
            DeadlineExceeded,
            Unavailable,
            Unimplemented,
            Internal,
        )
    }
)


def not_found(kind: str, text_id: str) -> NotFound:
    """The one answer for an id that is absent, malformed, or another organization's. `kind` as in `agent`."""
    return NotFound(
        f"{kind} {text_id} was not found",
        reason="RESOURCE_NOT_FOUND",
        metadata={"resource": text_id},
    )


def invalid_field(field: str, description: str) -> InvalidArgument:
    """An InvalidArgument that names one field, for rules that the schema cannot express."""
    return InvalidArgument(
        f"{field}: {description}",
        reason="VALIDATION_FAILED",
        field_violations=(FieldViolation(field, description),),
    )


def etag_mismatch() -> Aborted:
    """The etag given is not the stored one."""
    return Aborted("the resource has changed since it was read", reason="ETAG_MISMATCH")


def not_implemented(what: str) -> Unimplemented:
    """For a method that the API has and this version does not."""
    return Unimplemented(f"{what} is not implemented yet", reason="NOT_IMPLEMENTED")
