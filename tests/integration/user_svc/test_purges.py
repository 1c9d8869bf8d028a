"""Deleted organizations: their data goes after the time of grace, service by service, and one can see how far it is."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from chassis import errors, ids
from hearth.user.internal.v1 import purge_service_pb2
from hearth.user.internal.v1.purge_service_pb2_grpc import PurgeServiceStub
from hearth.user.v1 import organization_pb2
from hearth.user.v1 import organization_service_pb2 as pb
from tests.integration.user_svc.conftest import Client, World
from tests.integration.user_svc.refusals import refused
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHERS = ("agent_svc", "memory_svc", "tool_svc")


async def _delete(caller: Client, organization_id: str, *, purge_now: bool = False) -> None:
    request = pb.DeleteOrganizationRequest(organization_id=organization_id, purge_now=purge_now)
    await caller.organizations.DeleteOrganization(request, metadata=caller.metadata)


async def _deleted(caller: Client, organization_id: str) -> organization_pb2.Organization:
    request = pb.GetOrganizationRequest(organization_id=organization_id, include_deleted=True)
    return (await caller.organizations.GetOrganization(request, metadata=caller.metadata)).organization


def _start(organization: organization_pb2.Organization) -> datetime:
    return organization.purge.start_time.ToDatetime(tzinfo=UTC)


class Service:
    """Another service, as user_svc sees it."""

    def __init__(self, client: Client) -> None:
        self._stub = PurgeServiceStub(client.channel)
        self._metadata = client.metadata

    async def due(self) -> list[str]:
        request = purge_service_pb2.ListPurgesRequest()
        return list((await self._stub.ListPurges(request, metadata=self._metadata)).organization_ids)

    async def report(self, organization_id: str, **removed: int) -> None:
        request = purge_service_pb2.ReportPurgeRequest(organization_id=organization_id, removed=removed)
        await self._stub.ReportPurge(request, metadata=self._metadata)


async def _services(world: World) -> list[Service]:
    return [Service(await world.sign_in(world.secrets.service_key_of(name))) for name in OTHERS]


async def test_data_is_kept_for_the_time_of_grace_unless_it_is_told_to_go(admin: Client) -> None:
    made = await admin.create_organization()
    now = datetime.now(UTC)
    await _delete(admin, made.id)
    kept = await _deleted(admin, made.id)
    assert timedelta(days=7) - timedelta(minutes=1) < _start(kept) - now < timedelta(days=7) + timedelta(minutes=1)
    assert kept.state == organization_pb2.ORGANIZATION_STATE_DELETED
    assert [one.service for one in kept.purge.services] == [*OTHERS, "user_svc"]
    assert not any(one.HasField("end_time") for one in kept.purge.services)
    # Twice changes nothing, unless it must go now; and then nothing puts it off.
    await _delete(admin, made.id)
    assert _start(await _deleted(admin, made.id)) == _start(kept)
    await _delete(admin, made.id, purge_now=True)
    soon = _start(await _deleted(admin, made.id))
    assert soon - now < timedelta(minutes=1)
    await _delete(admin, made.id)
    assert _start(await _deleted(admin, made.id)) == soon


async def test_a_deleted_organization_is_seen_by_platform_administrators_who_ask_for_it(
    world: World, admin: Client
) -> None:
    made = await admin.create_organization()
    member = await world.member_of(admin, "", "ROLE_ORGANIZATION_ADMIN")
    await _delete(admin, made.id)
    for caller, request in (
        (admin, pb.GetOrganizationRequest(organization_id=made.id)),
        (member, pb.GetOrganizationRequest(organization_id=made.id, include_deleted=True)),
    ):
        got = await refused(caller.organizations.GetOrganization(request, metadata=caller.metadata))
        assert isinstance(got, errors.NotFound)
    living = await _deleted(admin, admin.organization_id)
    assert not living.HasField("purge")


async def test_everybody_reports_and_user_svc_comes_last(world: World, admin: Client) -> None:
    services = await _services(world)
    made, neighbour = await admin.create_organization(), await admin.create_organization()
    for organization in (made, neighbour):
        await world.member_of(admin, organization.id)
    before = _rows(world, neighbour.id)
    await _delete(admin, made.id, purge_now=True)
    # Not before every token of it has ended.
    assert made.id not in await services[0].due()
    assert isinstance(await refused(services[0].report(made.id)), errors.NotFound)

    async def is_due() -> bool:
        return made.id in await services[0].due()

    await until(is_due)
    for number, service in enumerate(services):
        assert made.id in await service.due()
        assert _rows(world, made.id)["users"], "user_svc removed its own before the others had"
        await service.report(made.id, things=number)
        await service.report(made.id, things=99)
        assert made.id not in await service.due()

    async def is_over() -> bool:
        return (await _deleted(admin, made.id)).purge.HasField("end_time")

    await until(is_over)
    ended = await _deleted(admin, made.id)
    removed = {one.service: dict(one.removed) for one in ended.purge.services}
    assert removed == {
        "agent_svc": {"things": 0},
        "memory_svc": {"things": 1},
        "tool_svc": {"things": 2},
        "user_svc": {"users": 1, "api_keys": 1},
    }
    assert (ended.name, ended.display_name) == (made.name, "")
    assert _rows(world, made.id) == {"users": 0, "api_keys": 0, "api_key_index": 0, "organizations": 1}
    assert _rows(world, neighbour.id) == before


async def test_nobody_else_reports_and_nothing_else_is_purged(world: World, admin: Client) -> None:
    service = (await _services(world))[0]
    for organization_id in (ids.encode("org", ids.new()), admin.organization_id):
        assert isinstance(await refused(service.report(organization_id)), errors.NotFound)
    got = await refused(service.report("x", **{"t" * 64: 1}))
    assert got.code == "INVALID_ARGUMENT"
    got = await refused(service.report("x", things=-1))
    assert got.code == "INVALID_ARGUMENT"
    gateway = Service(await world.sign_in(world.secrets.service_key_of("gateway")))
    for call in (gateway.due(), gateway.report(admin.organization_id)):
        assert (await refused(call)).reason == "ROLE_INSUFFICIENT"


def _rows(world: World, organization_id: str) -> dict[str, int]:
    tables = ("users", "api_keys", "api_key_index", "organizations")
    with psycopg.connect(world.database.superuser_url) as connection:
        counts: dict[str, int] = {}
        for table in tables:
            query = f"SELECT count(*) FROM {table} WHERE organization_id = %s"
            row = connection.execute(query.encode(), (ids.decode("org", organization_id),)).fetchone()
            counts[table] = row[0] if row else 0
    return counts
