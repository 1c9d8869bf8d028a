"""Every field's limits, at the edge and one past it: what is past is INVALID_ARGUMENT naming the field, what is at it never is."""

from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from chassis import errors
from chassis.status import from_rpc_error
from hearth.user.v1 import (
    api_key_service_pb2,
    organization_service_pb2,
    token_service_pb2,
    trusted_issuer_service_pb2,
    user_service_pb2,
)
from tests.integration.user_svc.conftest import Client
from tests.integration.user_svc.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

_users, _keys, _tokens = user_service_pb2, api_key_service_pb2, token_service_pb2
_organizations, _issuers = organization_service_pb2, trusted_issuer_service_pb2
_PAGES: list[tuple[str, type[Message]]] = [
    ("users.ListUsers", _users.ListUsersRequest),
    ("api_keys.ListApiKeys", _keys.ListApiKeysRequest),
    ("organizations.ListOrganizations", _organizations.ListOrganizationsRequest),
    ("issuers.ListTrustedIssuers", _issuers.ListTrustedIssuersRequest),
]
_IDS: list[tuple[str, type[Message], str]] = [
    ("users.GetUser", _users.GetUserRequest, "user_id"),
    ("users.DeleteUser", _users.DeleteUserRequest, "user_id"),
    ("api_keys.RevokeApiKey", _keys.RevokeApiKeyRequest, "api_key_id"),
    ("organizations.DeleteOrganization", _organizations.DeleteOrganizationRequest, "organization_id"),
    ("issuers.GetTrustedIssuer", _issuers.GetTrustedIssuerRequest, "trusted_issuer_id"),
    ("issuers.DeleteTrustedIssuer", _issuers.DeleteTrustedIssuerRequest, "trusted_issuer_id"),
]
_MAY_BE_EMPTY: list[tuple[str, type[Message], str]] = [
    ("organizations.GetOrganization", _organizations.GetOrganizationRequest, "organization_id"),
    ("api_keys.ListApiKeys", _keys.ListApiKeysRequest, "user_id"),
    ("api_keys.CreateApiKey", _keys.CreateApiKeyRequest, "user_id"),
    ("api_keys.CreateApiKey", _keys.CreateApiKeyRequest, "organization_id"),
    ("tokens.IssueToken", _tokens.IssueTokenRequest, "on_behalf_of_organization_id"),
    ("tokens.IssueToken", _tokens.IssueTokenRequest, "on_behalf_of_user_id"),
]
_UUID = "6f0f8c3e-58a6-4b69-9e6c-1f2d3c4b5a6"


def _method(client: Client, name: str) -> Any:
    service, _, method = name.partition(".")
    return getattr(getattr(client, service), method)


async def _violations(client: Client, name: str, request: Message) -> list[str]:
    """The fields that a call is refused for; none if it went well or failed for another reason."""
    try:
        await _method(client, name)(request, metadata=client.metadata)
    except Exception as error:
        got = from_rpc_error(error)  # pyright: ignore[reportArgumentType]
        assert got.code not in ("INTERNAL", "UNKNOWN", "UNAVAILABLE"), got
        return [violation.field for violation in got.field_violations]
    return []


@pytest.mark.parametrize(("name", "kind"), _PAGES)
async def test_pages(admin: Client, name: str, kind: type[Message]) -> None:
    for size in (0, 1, 200, 201, 2**31 - 1):
        assert await _violations(admin, name, kind(page_size=size)) == []
    for size in (-1, -(2**31)):
        assert await _violations(admin, name, kind(page_size=size)) == ["page_size"]
    got = await refused(_method(admin, name)(kind(page_token="x" * 2048), metadata=admin.metadata))
    assert got.reason == "PAGE_TOKEN_INVALID"
    assert await _violations(admin, name, kind(page_token="x" * 2049)) == ["page_token"]


@pytest.mark.parametrize(("name", "kind", "field"), _IDS)
async def test_ids(admin: Client, name: str, kind: type[Message], field: str) -> None:
    for value in ("", "x" * 65):
        assert await _violations(admin, name, kind(**{field: value})) == [field]
    for value in ("x", "x" * 64, "user_", "ü" * 64, "user_" + "\0" * 26):
        got = await refused(_method(admin, name)(kind(**{field: value}), metadata=admin.metadata))
        assert isinstance(got, errors.NotFound), f"{value!r}: {got}"


@pytest.mark.parametrize(("name", "kind", "field"), _MAY_BE_EMPTY)
async def test_ids_that_may_be_left_out(admin: Client, name: str, kind: type[Message], field: str) -> None:
    more = {"api_key": "hk_" + "x" * 43} if kind is _tokens.IssueTokenRequest else {}
    assert await _violations(admin, name, kind(**more)) == []
    assert await _violations(admin, name, kind(**more, **{field: "x" * 64})) == []
    assert await _violations(admin, name, kind(**more, **{field: "x" * 65})) == [field]


@pytest.mark.parametrize(
    ("email", "good"),
    [
        ("", True),
        ("a@b.org", True),
        ("a+tag@sub.example.org", True),
        ("o'hara@example.org", True),
        ("x" * 64 + "@" + ".".join(["y" * 63, "y" * 63, "y" * 57]) + ".org", True),
        ("x" * 64 + "@" + ".".join(["y" * 63, "y" * 63, "y" * 58]) + ".org", False),
        ("@example.org", False),
        ("a@", False),
        ("a@@example.org", False),
        ("a b@example.org", False),
        ("a@exa mple.org", False),
        ("Ada <a@example.org>", False),
        ("a@example.org\n", False),
        ("a@-example.org", False),
        ("a\0@example.org", False),
    ],
)
async def test_e_mail_addresses(admin: Client, email: str, good: bool) -> None:
    request = _users.CreateUserRequest(name="edge", email=email)
    found = await _violations(admin, "users.CreateUser", request)
    assert found == ([] if good else ["email"])


@pytest.mark.parametrize(
    ("name", "request_", "fields"),
    [
        ("users.CreateUser", _users.CreateUserRequest(name="x" * 64, display_name="ü" * 128), []),
        ("users.CreateUser", _users.CreateUserRequest(name="x" * 65, display_name="ü" * 129), ["name", "display_name"]),
        ("users.CreateUser", _users.CreateUserRequest(name="x", request_id=_UUID + "9"), []),
        ("users.CreateUser", _users.CreateUserRequest(name="x", request_id=_UUID), ["request_id"]),
        ("users.CreateUser", _users.CreateUserRequest(name="x", request_id=_UUID + "99"), ["request_id"]),
        ("organizations.CreateOrganization", _organizations.CreateOrganizationRequest(name="x" * 63), []),
        ("organizations.CreateOrganization", _organizations.CreateOrganizationRequest(name="x" * 64), ["name"]),
        (
            "organizations.CreateOrganization",
            _organizations.CreateOrganizationRequest(name="y", display_name="ü" * 129),
            ["display_name"],
        ),
        ("api_keys.CreateApiKey", _keys.CreateApiKeyRequest(display_name="ü" * 128), []),
        ("api_keys.CreateApiKey", _keys.CreateApiKeyRequest(display_name="ü" * 129), ["display_name"]),
        ("api_keys.CreateApiKey", _keys.CreateApiKeyRequest(expire_time=Timestamp(seconds=253402300799)), []),
        ("api_keys.CreateApiKey", _keys.CreateApiKeyRequest(expire_time=Timestamp(seconds=1)), ["expire_time"]),
        ("api_keys.CreateApiKey", _keys.CreateApiKeyRequest(expire_time=Timestamp(seconds=-(2**63))), ["expire_time"]),
        ("tokens.IssueToken", _tokens.IssueTokenRequest(api_key="x" * 256), []),
        ("tokens.IssueToken", _tokens.IssueTokenRequest(api_key="x" * 257), ["api_key"]),
        ("tokens.IssueToken", _tokens.IssueTokenRequest(), ["api_key"]),
    ],
)
async def test_texts_and_times(admin: Client, name: str, request_: Message, fields: list[str]) -> None:
    assert await _violations(admin, name, request_) == fields
