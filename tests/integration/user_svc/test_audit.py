"""The audit log of user_svc's own calls: what is recorded, and what happens to who tampers with it."""

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import grpc
import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from chassis import errors, ids
from hearth.user.v1 import (
    api_key_service_pb2,
    audit_event_pb2,
    audit_service_pb2,
    organization_service_pb2,
    token_service_pb2,
    user_service_pb2,
)
from tests.integration.user_svc.conftest import Client, World, until_recorded
from tests.integration.user_svc.refusals import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

_KEYS = "hearth.user.v1.ApiKeyService"
_USERS = "hearth.user.v1.UserService"
_SIGN_IN = "hearth.user.v1.TokenService.IssueToken"


async def _events(world: World, client: Client, **filters: object) -> list[audit_event_pb2.AuditEvent]:
    """All, in the order of the chain."""
    await until_recorded(world)
    request = audit_service_pb2.ListAuditEventsRequest(order=audit_service_pb2.AUDIT_ORDER_OLDEST_FIRST, page_size=200)
    for name, value in filters.items():
        setattr(request, name, value)
    return list((await client.audit.ListAuditEvents(request, metadata=client.metadata)).audit_events)


async def _verify(client: Client, after_seq: int = 0) -> audit_service_pb2.VerifyAuditLogResponse:
    request = audit_service_pb2.VerifyAuditLogRequest(after_seq=after_seq)
    return await client.audit.VerifyAuditLog(request, metadata=client.metadata)


async def test_a_key_and_a_sign_in_are_on_record(world: World, admin: Client) -> None:
    metadata = (*admin.metadata, ("x-request-id", "request-of-this-test"))
    made = await admin.api_keys.CreateApiKey(api_key_service_pb2.CreateApiKeyRequest(), metadata=metadata)
    await world.sign_in(made.secret)
    (created,) = await _events(world, admin, action=f"{_KEYS}.CreateApiKey", actor=admin.user_id)
    assert created.resource == made.api_key.id
    assert (created.outcome, created.count, created.request_id) == ("OK", 1, "request-of-this-test")
    assert created.organization_id == admin.organization_id
    assert created.on_behalf_of == ""
    assert abs(created.create_time.ToDatetime(tzinfo=UTC) - datetime.now(UTC)) < timedelta(seconds=30)
    (signed_in,) = await _events(world, admin, action=_SIGN_IN, resource=made.api_key.id)
    assert (signed_in.actor, signed_in.outcome) == (admin.user_id, "OK")


async def test_reading_leaves_no_record(world: World, admin: Client) -> None:
    before = await _events(world, admin)
    await admin.users.ListUsers(user_service_pb2.ListUsersRequest(), metadata=admin.metadata)
    await admin.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=admin.metadata)
    await _verify(admin)
    assert await _events(world, admin) == before


async def test_a_request_that_comes_again_is_recorded_once(world: World, admin: Client) -> None:
    request_id = str(uuid.uuid4())
    first = await admin.create_user(name="once", request_id=request_id)
    assert await admin.create_user(name="once", request_id=request_id) == first
    (created,) = await _events(world, admin, action=f"{_USERS}.CreateUser", resource=first.id)
    assert created.outcome == "OK"


async def test_what_happens_twice_is_recorded_twice(world: World, admin: Client) -> None:
    user = await admin.create_user()
    for _ in range(2):
        await admin.users.DeleteUser(user_service_pb2.DeleteUserRequest(user_id=user.id), metadata=admin.metadata)
    deleted = await _events(world, admin, action=f"{_USERS}.DeleteUser", resource=user.id)
    assert [event.outcome for event in deleted] == ["OK", "OK"]


async def test_a_change_elsewhere_is_recorded_where_its_actor_belongs(
    world: World, admin: Client, first_admin: Client
) -> None:
    user = await first_admin.create_user(organization_id=admin.organization_id)
    assert await _events(world, admin, resource=user.id) == []
    (created,) = await _events(world, first_admin, resource=user.id)
    assert (created.actor, created.organization_id) == (first_admin.user_id, first_admin.organization_id)
    made = await first_admin.create_organization()
    (event,) = await _events(world, first_admin, resource=made.id)
    assert event.action == "hearth.user.v1.OrganizationService.CreateOrganization"
    request = token_service_pb2.RotateSigningKeyRequest()
    key_id = (await first_admin.tokens.RotateSigningKey(request, metadata=first_admin.metadata)).key_id
    (rotated,) = await _events(world, first_admin, resource=key_id)
    assert rotated.action == "hearth.user.v1.TokenService.RotateSigningKey"


async def test_refusals_are_recorded_once_and_then_counted(world: World, admin: Client) -> None:
    viewer = await world.member_of(admin, role="ROLE_VIEWER")
    victim = await admin.create_user()
    for _ in range(30):
        request = user_service_pb2.DeleteUserRequest(user_id=victim.id)
        got = await refused(viewer.users.DeleteUser(request, metadata=viewer.metadata))
        assert isinstance(got, errors.PermissionDenied)
    (event,) = await _events(world, admin, actor=viewer.user_id, outcome="PERMISSION_DENIED")
    assert (event.action, event.resource, event.count) == (f"{_USERS}.DeleteUser", victim.id, 1)


async def test_a_refused_sign_in_with_a_known_key_is_recorded(world: World, admin: Client) -> None:
    user = await admin.create_user()
    secret = (await admin.create_key(user.id)).secret
    request = user_service_pb2.UpdateUserRequest()
    request.user.id, request.user.disabled = user.id, True
    request.update_mask.paths.append("disabled")
    await admin.users.UpdateUser(request, metadata=admin.metadata)
    with pytest.raises(grpc.aio.AioRpcError):
        await world.sign_in(secret)
    (event,) = await _events(world, admin, actor=user.id, action=_SIGN_IN)
    assert event.outcome == "UNAUTHENTICATED"


async def test_no_secret_and_no_text_gets_into_the_log(world: World, admin: Client) -> None:
    canary = f"canary-{uuid.uuid4().hex}"
    made = await admin.create_key()
    await admin.create_user(display_name=canary)
    await refused(
        admin.api_keys.RevokeApiKey(
            api_key_service_pb2.RevokeApiKeyRequest(api_key_id=made.secret), metadata=admin.metadata
        )
    )
    await refused(
        admin.api_keys.RevokeApiKey(api_key_service_pb2.RevokeApiKeyRequest(api_key_id=canary), metadata=admin.metadata)
    )
    await until_recorded(world)
    with psycopg.connect(world.database.superuser_url) as connection:
        rows = connection.execute("SELECT to_jsonb(e)::text FROM audit_events e").fetchall()
    text = "\n".join(row[0] for row in rows)
    assert made.api_key.id in text
    assert made.secret not in text
    assert made.secret.removeprefix("hk_") not in text
    assert canary not in text


async def test_filters_and_pages(world: World, admin: Client) -> None:
    users = [await admin.create_user() for _ in range(5)]
    request = audit_service_pb2.ListAuditEventsRequest(action=f"{_USERS}.CreateUser", page_size=2)
    await until_recorded(world)
    seen: list[str] = []
    while True:
        page = await admin.audit.ListAuditEvents(request, metadata=admin.metadata)
        seen += [event.resource for event in page.audit_events]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [user.id for user in reversed(users)]
    assert await _events(world, admin, outcome="ABORTED") == []
    now = Timestamp()
    now.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    later = audit_service_pb2.ListAuditEventsRequest(from_time=now)
    assert not (await admin.audit.ListAuditEvents(later, metadata=admin.metadata)).audit_events
    earlier = audit_service_pb2.ListAuditEventsRequest(to_time=now, page_size=200)
    assert len((await admin.audit.ListAuditEvents(earlier, metadata=admin.metadata)).audit_events) >= 5
    request.page_token, request.action = page.next_page_token or "x", ""
    assert isinstance(
        await refused(admin.audit.ListAuditEvents(request, metadata=admin.metadata)), errors.InvalidArgument
    )


async def test_the_log_is_for_administrators(world: World, admin: Client) -> None:
    member = await world.member_of(admin)
    for call in (
        member.audit.ListAuditEvents(audit_service_pb2.ListAuditEventsRequest(), metadata=member.metadata),
        member.audit.VerifyAuditLog(audit_service_pb2.VerifyAuditLogRequest(), metadata=member.metadata),
    ):
        assert isinstance(await refused(call), errors.PermissionDenied)


async def test_the_chain_holds(world: World, admin: Client) -> None:
    events = await _log_of_five(world, admin)
    found = await _verify(admin)
    assert not found.HasField("broken")
    assert found.verified_count == found.verified_seq == found.head_seq == events[-1].seq == len(events)
    assert found.head_hash == events[-1].hash
    rest = await _verify(admin, after_seq=2)
    assert (rest.verified_count, rest.verified_seq) == (len(events) - 2, events[-1].seq)
    assert isinstance(await refused(_verify(admin, after_seq=10_000)), errors.NotFound)


_TAMPERING = {
    "edited": (["UPDATE audit_events SET outcome = 'OK', actor = 'user_x' WHERE {} AND seq = 3"], 3, "HASH_MISMATCH"),
    "deleted": (["DELETE FROM audit_events WHERE {} AND seq = 3"], 3, "MISSING"),
    "the first": (["DELETE FROM audit_events WHERE {} AND seq = 1"], 1, "MISSING"),
    "swapped": (
        [
            "UPDATE audit_events SET seq = -1 WHERE {} AND seq = 2",
            "UPDATE audit_events SET seq = 2 WHERE {} AND seq = 4",
            "UPDATE audit_events SET seq = 4 WHERE {} AND seq = -1",
        ],
        2,
        "HASH_MISMATCH",
    ),
    "cut off": (["DELETE FROM audit_events WHERE {} AND seq >= 5"], 5, "TRUNCATED"),
    "all gone": (["DELETE FROM audit_events WHERE {}"], 1, "TRUNCATED"),
}


@pytest.mark.parametrize("what", _TAMPERING)
async def test_whoever_tampers_with_the_log_is_found_out(world: World, admin: Client, what: str) -> None:
    statements, seq, reason = _TAMPERING[what]
    events = await _log_of_five(world, admin)
    _as_superuser(world, admin, statements)
    found = await _verify(admin)
    assert found.broken.seq == seq
    assert audit_service_pb2.AuditBreakReason.Name(found.broken.reason) == f"AUDIT_BREAK_REASON_{reason}"
    expected = {"HASH_MISMATCH": {"edited": events[2].id, "swapped": events[3].id}.get(what, "")}
    assert found.broken.id == expected.get(reason, "")
    assert found.verified_count == seq - 1


async def test_a_cut_end_shows_a_gap_once_the_log_goes_on(world: World, admin: Client) -> None:
    events = await _log_of_five(world, admin)
    _as_superuser(world, admin, [f"DELETE FROM audit_events WHERE {{}} AND seq = {events[-1].seq}"])
    await admin.create_user()
    await until_recorded(world)
    found = await _verify(admin)
    assert (found.broken.seq, found.head_seq) == (events[-1].seq, events[-1].seq + 1)


async def test_a_log_that_cannot_go_on_holds_up_nobody_else_s(world: World, admin: Client, first_admin: Client) -> None:
    await _log_of_five(world, admin)
    _as_superuser(world, admin, ["UPDATE audit_heads SET seq = 2 WHERE {}"])
    await admin.create_user()
    made = await first_admin.create_organization()
    request = audit_service_pb2.ListAuditEventsRequest(resource=made.id)
    for _ in range(50):
        if (await first_admin.audit.ListAuditEvents(request, metadata=first_admin.metadata)).audit_events:
            break
        await asyncio.sleep(0.2)
    else:
        raise AssertionError("another organization's record does not arrive")
    assert (await _verify(admin)).HasField("broken")
    _as_superuser(
        world, admin, ["UPDATE audit_heads SET seq = (SELECT max(seq) FROM audit_events e WHERE e.{0}) WHERE {0}"]
    )
    with psycopg.connect(world.database.superuser_url, autocommit=True) as connection:
        connection.execute("DELETE FROM audit_outbox")


async def test_without_its_head_the_log_goes_on_and_verifies(world: World, admin: Client) -> None:
    events = await _log_of_five(world, admin)
    _as_superuser(world, admin, ["DELETE FROM audit_heads WHERE {}"])
    assert (await _verify(admin)).broken.seq == events[-1].seq
    await admin.create_user()
    await until_recorded(world)
    found = await _verify(admin)
    assert not found.HasField("broken")
    assert found.head_seq == events[-1].seq + 1


async def test_nobody_can_change_the_log(world: World, admin: Client) -> None:
    events = await _log_of_five(world, admin)
    with psycopg.connect(world.database.url) as connection:
        _enter(connection, admin)
        assert connection.execute("DELETE FROM audit_events").rowcount == 0
        assert connection.execute("DELETE FROM audit_heads").rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("UPDATE audit_events SET actor = 'x'")
    with psycopg.connect(world.database.owner_url) as connection:
        # No policy lets the owner do it either, short of changing the policies.
        _enter(connection, admin)
        assert connection.execute("UPDATE audit_events SET actor = 'x'").rowcount == 0
        assert connection.execute("DELETE FROM audit_events").rowcount == 0
    assert (await _verify(admin)).verified_count == len(events)


async def test_the_log_of_a_deleted_organization_can_be_purged(world: World, first_admin: Client) -> None:
    organization = await first_admin.create_organization()
    own = await world.member_of(first_admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    await own.create_user()
    await until_recorded(world)
    with psycopg.connect(world.database.url) as connection:
        _enter(connection, own)
        assert connection.execute("DELETE FROM audit_events").rowcount == 0
    request = organization_service_pb2.DeleteOrganizationRequest(organization_id=organization.id)
    await first_admin.organizations.DeleteOrganization(request, metadata=first_admin.metadata)
    with psycopg.connect(world.database.url) as connection:
        _enter(connection, own)
        assert connection.execute("DELETE FROM audit_events").rowcount == 2
        assert connection.execute("DELETE FROM audit_heads").rowcount == 1
    with psycopg.connect(world.database.superuser_url) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM audit_events").fetchone() == (True,)


async def _log_of_five(world: World, admin: Client) -> list[audit_event_pb2.AuditEvent]:
    for _ in range(5):
        await admin.create_user()
    events = await _events(world, admin)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len(events) >= 5
    return events


def _as_superuser(world: World, admin: Client, statements: Sequence[str]) -> None:
    with psycopg.connect(world.database.superuser_url) as connection:
        for statement in statements:
            mine = f"organization_id = '{ids.decode('org', admin.organization_id)}'"
            assert connection.execute(statement.format(mine).encode()).rowcount > 0


def _enter(connection: "psycopg.Connection[tuple[object, ...]]", admin: Client) -> None:
    organization_id = str(ids.decode("org", admin.organization_id))
    connection.execute("SELECT set_config('hearth.organization_id', %s, true)", (organization_id,))
