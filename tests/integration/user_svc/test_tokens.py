"""TokenService: who gets a token, what it says, and which ones are refused."""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta

import jwt
import psycopg
import pytest

from chassis import errors, ids
from chassis.auth import JwksFromUserService, TokenVerifier
from chassis.channels import open_channel
from chassis.identity import NO_ORGANIZATION, Role, use
from chassis.service_identity import ServiceTokens
from hearth.type.v1 import access_pb2
from hearth.user.v1 import (
    api_key_service_pb2,
    organization_pb2,
    organization_service_pb2,
    token_service_pb2,
    user_pb2,
    user_service_pb2,
)
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import bytes_of_refusal, refused
from user_svc.domain.api_key import new_secret

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WHO = token_service_pb2.WhoAmIRequest()


def _issue(client: Client, secret: str, organization_id: str = "", user_id: str = "") -> Awaitable[object]:
    return client.tokens.IssueToken(
        token_service_pb2.IssueTokenRequest(
            api_key=secret, on_behalf_of_organization_id=organization_id, on_behalf_of_user_id=user_id
        )
    )


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _token(client: Client) -> str:
    return client.metadata[0][1].removeprefix("Bearer ")


async def test_who_am_i(first_admin: Client) -> None:
    who = first_admin.who
    assert who.organization.name == "default"
    assert who.user.name == "admin"
    assert who.subject == who.user.id
    assert who.role == access_pb2.ROLE_PLATFORM_ADMIN
    assert 14 * 60 < who.expire_time.seconds - time.time() <= 15 * 60


async def test_the_claims_are_those_of_the_contract(admin: Client) -> None:
    token = _token(admin)
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert header["alg"] == "EdDSA"
    assert header["kid"] in {key.kid for key in (await admin.tokens.GetJwks(token_service_pb2.GetJwksRequest())).keys}
    assert claims["iss"] == claims["aud"] == "hearth"
    assert (claims["sub"], claims["org"], claims["role"]) == (admin.user_id, admin.organization_id, "PLATFORM_ADMIN")
    assert claims["key"].startswith("key_")
    assert claims["exp"] - claims["iat"] == 900
    assert "obo" not in claims


async def test_another_service_verifies_by_the_published_keys(world: World, admin: Client) -> None:
    channel = open_channel(world.address)
    identity = await TokenVerifier(JwksFromUserService(channel)).verify(_token(admin))
    await channel.close()
    assert (identity.subject, identity.role) == (admin.user_id, Role.PLATFORM_ADMIN)
    assert ids.encode("org", identity.organization_id) == admin.organization_id


@pytest.mark.parametrize("secret", ["x", "hk_", "hk_short", "é" * 20, "hk_" + "A" * 43, "a" * 256, "\0"])
async def test_what_is_no_active_key_gets_no_token(admin: Client, secret: str) -> None:
    got = await refused(_issue(admin, secret))
    assert isinstance(got, errors.Unauthenticated)
    assert got.reason == "API_KEY_INVALID"
    assert secret not in got.message or secret in ("x", "\0")


async def test_every_way_to_be_no_active_key_answers_the_same(world: World, admin: Client) -> None:
    revoked = await admin.create_key()
    await admin.api_keys.RevokeApiKey(
        api_key_service_pb2.RevokeApiKeyRequest(api_key_id=revoked.api_key.id), metadata=admin.metadata
    )
    disabled_user = await admin.create_user()
    disabled = await admin.create_key(disabled_user.id)
    await admin.users.UpdateUser(_disable(disabled_user), metadata=admin.metadata)
    deleted_user = await admin.create_user()
    deleted = await admin.create_key(deleted_user.id)
    await admin.users.DeleteUser(user_service_pb2.DeleteUserRequest(user_id=deleted_user.id), metadata=admin.metadata)
    secrets = [new_secret(), revoked.secret, disabled.secret, deleted.secret]
    answers = {await bytes_of_refusal(_issue(admin, secret)) for secret in secrets}
    assert len(answers) == 1
    assert answers.pop()[0] == "UNAUTHENTICATED"


def _disable(user: user_pb2.User, disabled: bool = True) -> user_service_pb2.UpdateUserRequest:
    request = user_service_pb2.UpdateUserRequest(user=user_pb2.User(id=user.id, disabled=disabled))
    request.update_mask.paths.append("disabled")
    return request


async def test_a_disabled_user_s_key_works_again_when_enabled(world: World, admin: Client) -> None:
    user = await admin.create_user()
    key = await admin.create_key(user.id)
    await admin.users.UpdateUser(_disable(user), metadata=admin.metadata)
    assert (await refused(_issue(admin, key.secret))).reason == "API_KEY_INVALID"
    await admin.users.UpdateUser(_disable(user, False), metadata=admin.metadata)
    assert (await world.sign_in(key.secret)).user_id == user.id


async def test_an_expired_key_gets_no_token_and_none_outlives_its_key(world: World, admin: Client) -> None:
    request = api_key_service_pb2.CreateApiKeyRequest()
    request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=60))
    key = await admin.api_keys.CreateApiKey(request, metadata=admin.metadata)
    client = await world.sign_in(key.secret)
    assert client.who.expire_time.seconds <= key.api_key.expire_time.seconds
    with psycopg.connect(world.database.superuser_url) as connection:
        connection.execute("UPDATE api_keys SET expire_time = now() WHERE expire_time IS NOT NULL")
    assert (await refused(_issue(admin, key.secret))).reason == "API_KEY_INVALID"


async def test_organizations_that_are_not_active_get_no_tokens(world: World, admin: Client) -> None:
    organization = await admin.create_organization()
    member = await admin.create_user(organization_id=organization.id)
    key = await admin.create_key(member.id, organization.id)
    service = world.secrets.service_key

    async def set_state(state: organization_pb2.OrganizationState.ValueType) -> None:
        change = organization_service_pb2.UpdateOrganizationRequest()
        change.organization.id = organization.id
        change.organization.state = state
        change.update_mask.paths.append("state")
        await admin.organizations.UpdateOrganization(change, metadata=admin.metadata)

    await set_state(organization_pb2.ORGANIZATION_STATE_DISABLED)
    assert (await refused(_issue(admin, key.secret))).reason == "API_KEY_INVALID"
    got = await refused(_issue(admin, service, organization.id))
    assert isinstance(got, errors.FailedPrecondition)
    assert got.reason == "ORGANIZATION_NOT_ACTIVE"
    await set_state(organization_pb2.ORGANIZATION_STATE_ACTIVE)
    await world.sign_in(key.secret)
    delete = organization_service_pb2.DeleteOrganizationRequest(organization_id=organization.id)
    await admin.organizations.DeleteOrganization(delete, metadata=admin.metadata)
    assert (await refused(_issue(admin, key.secret))).reason == "API_KEY_INVALID"
    assert isinstance(await refused(_issue(admin, service, organization.id)), errors.NotFound)


async def test_a_service_acts_for_an_organization_and_a_user(world: World, admin: Client) -> None:
    service = await world.sign_in(world.secrets.service_key, admin.organization_id, admin.user_id)
    claims = jwt.decode(_token(service), options={"verify_signature": False})
    assert (claims["sub"], claims["role"], claims["org"]) == ("svc:agent_svc", "SERVICE", admin.organization_id)
    assert (claims["obo"], claims["key"]) == (admin.user_id, "")
    assert service.who.role == access_pb2.ROLE_SERVICE
    assert service.who.organization == admin.who.organization
    assert not service.who.HasField("user")


async def test_a_service_may_act_for_no_organization_and_then_sees_none(world: World, admin: Client) -> None:
    service = await world.sign_in(world.secrets.service_key)
    assert not service.who.HasField("organization")
    listed = await service.users.ListUsers(user_service_pb2.ListUsersRequest(), metadata=service.metadata)
    assert list(listed.users) == []
    get = user_service_pb2.GetUserRequest(user_id=admin.user_id)
    assert isinstance(await refused(service.users.GetUser(get, metadata=service.metadata)), errors.NotFound)


async def test_acting_for_another_is_for_services_only(world: World, admin: Client) -> None:
    key = await admin.create_key()
    for organization_id, user_id in ((admin.organization_id, ""), ("", admin.user_id)):
        got = await refused(_issue(admin, key.secret, organization_id, user_id))
        assert isinstance(got, errors.PermissionDenied)
        assert got.reason == "ROLE_INSUFFICIENT"


async def test_a_service_cannot_act_for_what_is_not_there(world: World, admin: Client) -> None:
    for organization_id in (ids.encode("org", ids.new()), "org_nonsense", admin.user_id):
        got = await refused(_issue(admin, world.secrets.service_key, organization_id))
        assert isinstance(got, errors.NotFound)
    assert isinstance(
        await refused(_issue(admin, world.secrets.service_key, admin.organization_id, "nonsense")), errors.NotFound
    )


async def test_a_service_manages_nothing(world: World, admin: Client) -> None:
    service = await world.sign_in(world.secrets.service_key, admin.organization_id)
    calls = [
        service.users.CreateUser(user_service_pb2.CreateUserRequest(name="x"), metadata=service.metadata),
        service.organizations.ListOrganizations(
            organization_service_pb2.ListOrganizationsRequest(), metadata=service.metadata
        ),
        service.api_keys.CreateApiKey(api_key_service_pb2.CreateApiKeyRequest(), metadata=service.metadata),
        service.api_keys.ListApiKeys(api_key_service_pb2.ListApiKeysRequest(), metadata=service.metadata),
    ]
    for call in calls:
        assert isinstance(await refused(call), errors.PermissionDenied)


async def test_service_tokens_of_the_chassis(world: World, admin: Client) -> None:
    channel = open_channel(world.address)
    tokens = ServiceTokens(channel, world.secrets.folder / "service")
    organization_id = ids.decode("org", admin.organization_id)
    first, second = await asyncio.gather(tokens.identity_for(organization_id), tokens.identity_for(organization_id))
    assert first is second
    assert (await tokens.identity_for(organization_id, admin.user_id)).token != first.token
    assert (await tokens.identity_for(None)).organization_id == NO_ORGANIZATION
    with use(first):
        who = await TokenServiceStub(channel).WhoAmI(_WHO)
    assert (who.subject, who.organization.id) == ("svc:agent_svc", admin.organization_id)
    (world.secrets.folder / "service").write_text(new_secret())
    with pytest.raises(errors.Unauthenticated) as raised:
        await tokens.identity_for(organization_id, "user_01m8335f5qe00azd7eabk8989k")
    assert raised.value.reason == "API_KEY_INVALID"
    await channel.close()


async def test_tokens_that_are_not_ours_are_refused(world: World, admin: Client) -> None:
    token = _token(admin)
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "x"}).encode()).decode().rstrip("=")
    flipped = (
        base64.urlsafe_b64encode(json.dumps(claims | {"org": ids.encode("org", ids.new())}).encode())
        .decode()
        .rstrip("=")
    )
    for bad in (f"{none}.{payload}.", f"{header}.{flipped}.{signature}", f"{header}.{payload}.", token[:-8], "x.y.z"):
        got = await refused(admin.tokens.WhoAmI(_WHO, metadata=_bearer(bad)))
        assert isinstance(got, errors.Unauthenticated)
        assert got.reason == "TOKEN_INVALID"
    assert (await refused(admin.tokens.WhoAmI(_WHO))).reason == "TOKEN_MISSING"


async def test_an_expired_token_is_refused_as_expired(
    world: World, admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 1000
    monkeypatch.setattr("chassis.auth.time.time", lambda: later)
    got = await refused(admin.tokens.WhoAmI(_WHO, metadata=admin.metadata))
    assert isinstance(got, errors.Unauthenticated)
    assert got.reason == "TOKEN_EXPIRED"


async def test_the_token_of_a_deleted_user_says_that_it_is_gone(world: World, admin: Client) -> None:
    member = await world.member_of(admin)
    await admin.users.DeleteUser(user_service_pb2.DeleteUserRequest(user_id=member.user_id), metadata=admin.metadata)
    got = await refused(member.tokens.WhoAmI(_WHO, metadata=member.metadata))
    assert isinstance(got, errors.Unauthenticated)


async def test_keys_are_published_while_the_database_is_away(world: World, admin: Client) -> None:
    before = await admin.tokens.GetJwks(token_service_pb2.GetJwksRequest())
    with psycopg.connect(world.database.superuser_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE signing_keys RENAME TO signing_keys_away")
        assert await admin.tokens.GetJwks(token_service_pb2.GetJwksRequest()) == before
