"""How failures of gRPC, of proxies and of Hearth become HearthErrors."""

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from hearth_client import FieldViolation, HearthError, InternalError, UnauthenticatedError, UnavailableError, errors
from hearth_client._status import from_rpc_error


def rpc_error(
    code: grpc.StatusCode, message: str = "", *, status: status_pb2.Status | bytes | None = None, answered: bool = True
) -> grpc.aio.AioRpcError:
    initial = grpc.aio.Metadata(("server", "envoy")) if answered else grpc.aio.Metadata()
    trailing = grpc.aio.Metadata()
    if status is not None:
        trailing.add("grpc-status-details-bin", status if isinstance(status, bytes) else status.SerializeToString())
    return grpc.aio.AioRpcError(code, initial, trailing, message)


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_every_code_has_its_class(code: str) -> None:
    status = status_pb2.Status(message="m")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="R", metadata={"k": "v"}))
    error = from_rpc_error(rpc_error(grpc.StatusCode[code], "x", status=status))
    assert type(error) is errors.BY_CODE[code]
    assert (error.code, error.reason, error.message, error.metadata) == (code, "R", "m", {"k": "v"})


def test_the_docstring_draws_all_of_them() -> None:
    assert errors.__doc__ is not None
    for kind in errors.BY_CODE.values():
        assert f"── {kind.__name__}" in errors.__doc__


@pytest.mark.parametrize("code", ["UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN"])
def test_a_broken_connection_is_unavailable(code: str) -> None:
    error = from_rpc_error(rpc_error(grpc.StatusCode[code], "Received RST_STREAM", answered=False))
    assert isinstance(error, UnavailableError)
    assert error.reason == "UNREACHABLE"


def test_a_proxy_that_gets_no_answer_is_not_unreachable() -> None:
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, "no healthy upstream"))
    assert isinstance(error, UnavailableError)
    assert error.reason == "DEPENDENCY_UNAVAILABLE"


@pytest.mark.parametrize(
    ("message", "reason"), [("Jwt is expired", "TOKEN_EXPIRED"), ("Jwt is missing", "TOKEN_INVALID")]
)
def test_the_proxys_own_token_check(message: str, reason: str) -> None:
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNAUTHENTICATED, message))
    assert isinstance(error, UnauthenticatedError)
    assert error.reason == reason


def test_hearths_own_internal_error_stays_internal() -> None:
    status = status_pb2.Status(message="a fault of Hearth")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="INTERNAL", metadata={"error_id": "e1"}))
    error = from_rpc_error(rpc_error(grpc.StatusCode.INTERNAL, "x", status=status))
    assert isinstance(error, InternalError)
    assert error.metadata == {"error_id": "e1"}


def test_details_that_are_no_status() -> None:
    error = from_rpc_error(rpc_error(grpc.StatusCode.NOT_FOUND, "gone", status=b"\xff\xff"))
    assert (error.code, error.message) == ("NOT_FOUND", "gone")


def test_what_is_printed() -> None:
    fields = [FieldViolation("name", "too long")]
    assert (
        str(HearthError("bad", reason="VALIDATION_FAILED", field_violations=fields))
        == "bad: name: too long (VALIDATION_FAILED)"
    )
    assert str(HearthError("name: too long", reason="R", field_violations=fields)) == "name: too long (R)"
