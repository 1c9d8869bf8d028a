"""Requests that break the schema name the field."""

import pytest

from chassis import validation
from chassis.errors import InvalidArgument
from hearth.user.v1 import user_pb2
from hearth.user.v1 import user_service_pb2 as pb


def _violations(message: pb.CreateUserRequest | pb.UpdateUserRequest, prefix: str = "") -> InvalidArgument:
    with pytest.raises(InvalidArgument) as raised:
        validation.check(message, prefix)
    return raised.value


def test_every_broken_field_is_named() -> None:
    error = _violations(pb.CreateUserRequest(name="Not Allowed", email="nobody", display_name="x" * 129))
    assert {violation.field for violation in error.field_violations} == {"name", "email", "display_name"}
    assert error.reason == "VALIDATION_FAILED"


def test_a_prefix_goes_before_the_path() -> None:
    error = _violations(pb.CreateUserRequest(name="ok", email="nobody"), "user.")
    assert [violation.field for violation in error.field_violations] == ["user.email"]


def test_a_bad_mask_alone_has_its_own_reason() -> None:
    request = pb.UpdateUserRequest(user=user_pb2.User(id="x"))
    request.update_mask.paths.append("name")
    assert _violations(request).reason == "UPDATE_MASK_INVALID"
    request.ClearField("user")
    assert _violations(request).reason == "VALIDATION_FAILED"


def test_what_fits_passes() -> None:
    validation.check(pb.CreateUserRequest(name="rex", email="rex@example.org"))


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\xff", b"\x1a\x02\xff\xfe", b"\x0a"])
def test_bytes_that_are_no_message_are_an_invalid_argument(raw: bytes) -> None:
    with pytest.raises(InvalidArgument) as raised:
        validation.parse(pb.CreateUserRequest.FromString, raw)
    assert raised.value.reason == "VALIDATION_FAILED"


def test_nul_is_found_where_it_is() -> None:
    request = pb.UpdateUserRequest(user=user_pb2.User(display_name="a\0b"))
    request.update_mask.paths.extend(["ok", "b\0"])
    assert [violation.field for violation in validation.nul_fields(request)] == [
        "user.display_name",
        "update_mask.paths[1]",
    ]
