"""ApiKeyService: a secret is shown once, works until it is revoked, and belongs to one user."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis import errors, ids
from hearth.user.v1 import api_key_pb2, token_service_pb2
from hearth.user.v1 import api_key_service_pb2 as pb
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import bytes_of_refusal, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_key_is_shown_once(world: World, admin: Client) -> None:
    request = pb.CreateApiKeyRequest(display_name="laptop")
    made = await admin.api_keys.CreateApiKey(request, metadata=admin.metadata)
    assert made.secret.startswith("hk_")
    assert len(made.secret) == 46
    assert made.secret.startswith(made.api_key.hint)
    assert len(made.api_key.hint) < 12
    assert (made.api_key.user_id, made.api_key.display_name) == (admin.user_id, "laptop")
    listed = await admin.api_keys.ListApiKeys(pb.ListApiKeysRequest(), metadata=admin.metadata)
    assert made.api_key in listed.api_keys
    assert made.secret not in str(listed)
    assert (await world.sign_in(made.secret)).user_id == admin.user_id


async def test_a_revoked_key_stays_in_the_list_and_gets_no_token(world: World, admin: Client) -> None:
    made = await admin.create_key()
    revoke = pb.RevokeApiKeyRequest(api_key_id=made.api_key.id)
    await admin.api_keys.RevokeApiKey(revoke, metadata=admin.metadata)
    first = await _listed(admin, made.api_key.id)
    await admin.api_keys.RevokeApiKey(revoke, metadata=admin.metadata)
    assert first.HasField("revoke_time")
    assert await _listed(admin, made.api_key.id) == first
    issue = token_service_pb2.IssueTokenRequest(api_key=made.secret)
    assert (await refused(admin.tokens.IssueToken(issue))).reason == "API_KEY_INVALID"


async def _listed(client: Client, key_id: str) -> api_key_pb2.ApiKey:
    listed = await client.api_keys.ListApiKeys(pb.ListApiKeysRequest(), metadata=client.metadata)
    return next(key for key in listed.api_keys if key.id == key_id)


async def test_members_have_their_own_keys_only(world: World, admin: Client) -> None:
    member, other = await world.member_of(admin), await world.member_of(admin, role="ROLE_VIEWER")
    own = await member.create_key()
    listed = await member.api_keys.ListApiKeys(pb.ListApiKeysRequest(), metadata=member.metadata)
    assert {key.user_id for key in listed.api_keys} == {member.user_id}
    assert isinstance(await refused(member.create_key(other.user_id)), errors.PermissionDenied)
    foreign = pb.ListApiKeysRequest(user_id=other.user_id)
    assert isinstance(
        await refused(member.api_keys.ListApiKeys(foreign, metadata=member.metadata)), errors.PermissionDenied
    )
    revoke = pb.RevokeApiKeyRequest(api_key_id=own.api_key.id)
    assert isinstance(await refused(other.api_keys.RevokeApiKey(revoke, metadata=other.metadata)), errors.NotFound)
    await world.sign_in(own.secret)
    await member.api_keys.RevokeApiKey(revoke, metadata=member.metadata)


async def test_administrators_see_and_revoke_all(world: World, admin: Client) -> None:
    local = await world.member_of(admin, role="ROLE_ORGANIZATION_ADMIN")
    member = await world.member_of(admin)
    listed = await local.api_keys.ListApiKeys(pb.ListApiKeysRequest(), metadata=local.metadata)
    assert {key.user_id for key in listed.api_keys} == {admin.user_id, local.user_id, member.user_id}
    only = pb.ListApiKeysRequest(user_id=member.user_id)
    listed = await local.api_keys.ListApiKeys(only, metadata=local.metadata)
    assert {key.user_id for key in listed.api_keys} == {member.user_id}
    revoke = pb.RevokeApiKeyRequest(api_key_id=listed.api_keys[0].id)
    await local.api_keys.RevokeApiKey(revoke, metadata=local.metadata)


async def test_an_administrator_does_not_revoke_the_keys_of_one_above(world: World, admin: Client) -> None:
    local = await world.member_of(admin, role="ROLE_ORGANIZATION_ADMIN")
    key = (await admin.create_key()).api_key
    got = await refused(local.api_keys.RevokeApiKey(pb.RevokeApiKeyRequest(api_key_id=key.id), metadata=local.metadata))
    assert isinstance(got, errors.PermissionDenied)


async def test_another_organization_s_key_is_not_found_byte_for_byte(world: World, admin: Client) -> None:
    organization = await admin.create_organization()
    foreign = await world.member_of(admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    mine, absent = (await admin.create_key()).api_key.id, ids.encode("key", ids.new())
    answers: list[tuple[str, str, bytes]] = []
    for key_id in (mine, absent):
        call = foreign.api_keys.RevokeApiKey(pb.RevokeApiKeyRequest(api_key_id=key_id), metadata=foreign.metadata)
        code, text, details = await bytes_of_refusal(call)
        answers.append((code, text.replace(key_id, "ID"), details.replace(key_id.encode(), b"ID")))
    assert answers[0] == answers[1]
    assert answers[0][0] == "NOT_FOUND"
    listed = await foreign.api_keys.ListApiKeys(pb.ListApiKeysRequest(), metadata=foreign.metadata)
    assert {key.user_id for key in listed.api_keys} == {foreign.user_id}
    theirs = pb.ListApiKeysRequest(user_id=admin.user_id)
    assert isinstance(await refused(foreign.api_keys.ListApiKeys(theirs, metadata=foreign.metadata)), errors.NotFound)
    assert isinstance(await refused(foreign.create_key("", admin.organization_id)), errors.NotFound)


async def test_a_key_in_the_past_is_refused(admin: Client) -> None:
    request = pb.CreateApiKeyRequest()
    request.expire_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=1))
    got = await refused(admin.api_keys.CreateApiKey(request, metadata=admin.metadata))
    assert [violation.field for violation in got.field_violations] == ["expire_time"]


@pytest.mark.parametrize("seconds", [253402300800, 2**63 - 1])
async def test_a_key_that_ends_after_the_end_of_time_is_refused(admin: Client, seconds: int) -> None:
    request = pb.CreateApiKeyRequest(expire_time=Timestamp(seconds=seconds))
    got = await refused(admin.api_keys.CreateApiKey(request, metadata=admin.metadata))
    assert isinstance(got, errors.InvalidArgument)
    assert [violation.field for violation in got.field_violations] == ["expire_time"]


@pytest.mark.parametrize("key_id", ["x", "key_x", "user_01m8335f5qe00azd7eabk8989k", "key_\0"])
async def test_nonsense_ids_are_not_found(admin: Client, key_id: str) -> None:
    got = await refused(admin.api_keys.RevokeApiKey(pb.RevokeApiKeyRequest(api_key_id=key_id), metadata=admin.metadata))
    assert isinstance(got, errors.NotFound)
