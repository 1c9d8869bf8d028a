"""Errors keep their meaning across the wire, and a driver's text never gets there."""

import grpc
import pytest
from google.rpc import status_pb2
from grpc.aio import AioRpcError, Metadata

from chassis import errors, status


def _as_received(code: grpc.StatusCode, message: str, trailing: status.Metadata) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*trailing), details=message)


@pytest.mark.parametrize("kind", list(errors.BY_CODE.values()))
def test_every_error_survives_the_round_trip(kind: type[errors.DomainError]) -> None:
    error = kind(
        "what happened",
        reason="VALIDATION_FAILED",
        metadata={"resource": "run_1"},
        field_violations=[errors.FieldViolation("user.email", "is no address", "string.email")],
        retry_after_s=1.25,
    )
    back = status.from_rpc_error(_as_received(*status.to_wire(error)))
    assert type(back) is kind
    assert (back.message, back.reason, back.metadata) == (error.message, error.reason, error.metadata)
    assert (back.field_violations, back.retry_after_s) == (error.field_violations, 1.25)


def test_exactly_one_error_info_and_nothing_that_does_not_apply() -> None:
    proto = status.to_proto(errors.NotFound("gone", reason="RESOURCE_NOT_FOUND"))
    assert [detail.type_url.rpartition(".")[2] for detail in proto.details] == ["ErrorInfo"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.CANCELLED, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNKNOWN, errors.Internal),
        (grpc.StatusCode.DATA_LOSS, errors.Internal),
    ],
)
def test_what_grpc_itself_says_does_not_pass_through(code: grpc.StatusCode, kind: type[errors.DomainError]) -> None:
    back = status.from_rpc_error(_as_received(code, "failed to connect to ipv4:10.0.0.7:4711", ()))
    assert type(back) is kind
    assert "10.0.0.7" not in back.message
    assert back.reason


def test_details_that_are_no_status_are_ignored() -> None:
    back = status.from_rpc_error(_as_received(grpc.StatusCode.NOT_FOUND, "gone", [(status.DETAILS_KEY, b"\xff\xff")]))
    assert isinstance(back, errors.NotFound)
    assert back.message == "gone"


def test_a_status_with_an_unknown_code_is_internal() -> None:
    assert isinstance(status.from_proto(status_pb2.Status(code=99, message="?")), errors.Internal)


@pytest.mark.parametrize("text", ["x" * 100_000, "\u202e" * 50_000, "\0" * 100_000])
def test_an_error_fits_into_headers_whatever_the_caller_sent(text: str) -> None:
    violations = [
        errors.FieldViolation(f'metadata["{text}"][{n}]', f"not {text}", "string.max_len") for n in range(500)
    ]
    error = errors.InvalidArgument(
        text, reason="VALIDATION_FAILED", metadata={"resource": text}, field_violations=violations
    )
    code, message, trailing = status.to_wire(error)
    encoded = sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in message.encode())
    assert encoded + sum(len(value) * 4 // 3 for _, value in trailing) < 8 * 1024
    back = status.from_rpc_error(_as_received(code, message, trailing))
    assert back.field_violations[0].field.startswith("metadata")
    assert (back.reason, back.message[:100]) == ("VALIDATION_FAILED", text[:100])
