"""Keys that are limited to scopes, and when a key was last used."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import jwt
import psycopg
import pytest

from chassis import errors, ids
from hearth.user.v1 import api_key_pb2, token_service_pb2, user_service_pb2
from hearth.user.v1 import api_key_service_pb2 as pb
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _key(client: Client, *scopes: str) -> pb.CreateApiKeyResponse:
    return await client.api_keys.CreateApiKey(pb.CreateApiKeyRequest(scopes=scopes), metadata=client.metadata)


async def _listed(client: Client, key_id: str) -> api_key_pb2.ApiKey:
    listed = await client.api_keys.ListApiKeys(pb.ListApiKeysRequest(), metadata=client.metadata)
    return next(key for key in listed.api_keys if key.id == key_id)


async def test_a_token_carries_the_scopes_of_its_key(world: World, admin: Client) -> None:
    made = await _key(admin, "user.read", "agent.write")
    assert made.api_key.scopes == ["agent.write", "user.read"]
    assert (await _listed(admin, made.api_key.id)).scopes == ["agent.write", "user.read"]
    limited = await world.sign_in(made.secret)
    token = limited.metadata[0][1].removeprefix("Bearer ")
    assert jwt.decode(token, options={"verify_signature": False})["scope"] == "agent.write user.read"
    assert limited.who.scopes == ["agent.write", "user.read"]
    assert not admin.who.scopes


async def test_a_limited_key_does_what_its_scopes_allow_and_nothing_else(world: World, admin: Client) -> None:
    reader = await world.sign_in((await _key(admin, "user.read")).secret)
    await reader.users.ListUsers(user_service_pb2.ListUsersRequest(), metadata=reader.metadata)
    for call in (reader.create_user(), reader.create_key(), reader.create_organization()):
        got = await refused(call)
        assert isinstance(got, errors.PermissionDenied)
        assert (got.reason, got.metadata["needed"]) == ("SCOPE_INSUFFICIENT", "user.write")
    elsewhere = await admin.api_keys.CreateApiKey(
        pb.CreateApiKeyRequest(scopes=["tool.write"]), metadata=admin.metadata
    )
    issued = await admin.tokens.IssueToken(token_service_pb2.IssueTokenRequest(api_key=elsewhere.secret))
    metadata = (("authorization", f"Bearer {issued.token}"),)
    got = await refused(admin.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=metadata))
    assert (got.reason, got.metadata["needed"]) == ("SCOPE_INSUFFICIENT", "user.read")


async def test_writing_includes_reading(world: World, admin: Client) -> None:
    writer = await world.sign_in((await _key(admin, "user.write")).secret)
    await writer.users.ListUsers(user_service_pb2.ListUsersRequest(), metadata=writer.metadata)
    await writer.create_user()


async def test_a_role_is_not_widened_by_a_scope(world: World, admin: Client) -> None:
    member = await world.member_of(admin)
    limited = await world.sign_in((await _key(member, "user.write")).secret)
    assert (await refused(limited.create_user())).reason == "ROLE_INSUFFICIENT"


async def test_nobody_makes_a_key_that_reaches_further_than_the_own(world: World, admin: Client) -> None:
    limited = await world.sign_in((await _key(admin, "user.write", "agent.read")).secret)
    same = await _key(limited, "user.read", "agent.read")
    assert same.api_key.scopes == ["agent.read", "user.read"]
    other = await admin.create_user()
    for scopes, lacking in (
        (["agent.write"], "agent.write"),
        (["user.write", "tool.read", "memory.read"], "memory.read tool.read"),
        # No scopes: everything.
        ([], "agent.write memory.read memory.write tool.read tool.write"),
    ):
        for user_id in ("", other.id):
            request = pb.CreateApiKeyRequest(scopes=scopes, user_id=user_id)
            got = await refused(limited.api_keys.CreateApiKey(request, metadata=limited.metadata))
            assert isinstance(got, errors.PermissionDenied)
            assert (got.reason, got.metadata["needed"]) == ("SCOPE_INSUFFICIENT", lacking)


@pytest.mark.parametrize(
    "scopes", [["agent"], ["agent.admin"], ["*"], [""], ["agent.read "], ["user.read", "user.read"], ["AGENT.READ"]]
)
async def test_what_is_no_scope_is_refused(admin: Client, scopes: list[str]) -> None:
    got = await refused(_key(admin, *scopes))
    assert isinstance(got, errors.InvalidArgument)
    assert got.field_violations[0].field.startswith("scopes")


async def test_the_last_use_of_a_key_is_told(world: World, admin: Client) -> None:
    made = await admin.create_key()
    assert not made.api_key.HasField("last_used_time")
    assert not (await _listed(admin, made.api_key.id)).HasField("last_used_time")
    before = datetime.now(UTC)
    await world.sign_in(made.secret)
    after = datetime.now(UTC)
    deadline = time.monotonic() + 15
    while not (seen := await _listed(admin, made.api_key.id)).HasField("last_used_time"):
        assert time.monotonic() < deadline, "the use of a key was not written"
        await asyncio.sleep(0.2)
    used = seen.last_used_time.ToDatetime(tzinfo=UTC)
    assert before - timedelta(milliseconds=1) <= used <= after


async def test_what_was_used_when_goes_with_the_key(world: World, admin: Client) -> None:
    made = await admin.create_key()
    key_id = ids.decode("key", made.api_key.id)
    with psycopg.connect(world.database.superuser_url) as connection:
        connection.execute("INSERT INTO api_key_uses VALUES (%s, now())", (key_id,))
        connection.execute("DELETE FROM api_keys WHERE id = %s", (key_id,))
        assert connection.execute("SELECT FROM api_key_uses WHERE key_id = %s", (key_id,)).fetchone() is None
