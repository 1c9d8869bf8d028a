"""A deleted organization leaves nothing behind, in no table of any service and not in the vector index, though services are killed in
the middle of removing it; and its neighbour keeps everything."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql
from qdrant_edge import CountRequest, EdgeShard

from chassis.identity import Role
from deploy.local import Stack
from hearth.memory.v1 import archival_memory_service_pb2 as archival
from hearth.user.v1 import organization_pb2
from hearth.user.v1 import organization_service_pb2 as organizations
from memory_svc.adapters.qdrant_edge.filters import of_organization
from tests.contract.tenancy.databases import DATABASES, Contents
from tests.contract.tenancy.rpcs import Doors
from tests.contract.tenancy.tenants import Registrar, Tenant
from tests.fakes.model_control import ThreadedModelServer
from tests.support.fixtures import environment

_TABLES = "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
# What stays on purpose: the tombstone, for a quarter of an hour whose tokens are void, and what was done by whom.
_STAYS = {"user_svc.organizations", "user_svc.revocations", "user_svc.audit_events", "user_svc.audit_heads"}
_OUTBOXES = {f"{service}.audit_outbox" for service in DATABASES}
_PASSAGES = 2_000


@pytest.fixture
def own_stack(model_server: ThreadedModelServer) -> Iterator[Stack]:
    """A stack whose services may be killed, and whose folders are there after its end."""
    with tempfile.TemporaryDirectory(prefix="hearth-purge-") as folder:
        # PostgreSQL, which does not run as root, must be able to pass.
        Path(folder).chmod(0o711)
        with Stack(Path(folder), env=environment(model_server)) as stack:
            yield stack


def _until(met: Callable[[], bool], what: str, timeout_s: float = 60.0, every_s: float = 0.1) -> None:
    deadline = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(every_s)


def _traces(contents: Contents, tenant: Tenant) -> dict[str, int]:
    """`service.table` → rows that name the organization in any column, in whatever form, or hold its word."""
    words = [str(tenant.uuid), tenant.names.organization, tenant.names.word]
    found: dict[str, int] = {}
    for service in DATABASES:
        for (table,) in contents.rows(service, _TABLES):
            query = sql.SQL("SELECT count(*) FROM {} AS t WHERE to_jsonb(t)::text LIKE ANY(%s)")
            rows = contents.connections[service].execute(
                query.format(sql.Identifier(table)), ([f"%{word}%" for word in words],)
            )
            if count := rows.fetchall()[0][0]:
                found[f"{service}.{table}"] = count
    return found


def _with_organization(contents: Contents) -> set[str]:
    """All tables that say whose a row is, whoever added them and when."""
    query = "SELECT table_name::text FROM information_schema.columns WHERE table_schema = 'public' AND column_name = %s"
    return {
        f"{service}.{table}"
        for service in DATABASES
        for (table,) in contents.rows(service, query, ("organization_id",))
    }


def _settled(contents: Contents, tenant: Tenant) -> dict[str, str]:
    """What an organization has, once background work is done with it."""
    before: dict[str, str] = {}

    def same() -> bool:
        nonlocal before
        seen, before = before, contents.digests(tenant.uuid)
        return seen == before

    _until(same, "the neighbour is quiet", every_s=1.0)
    return before


def _passages(contents: Contents, tenant: Tenant) -> int:
    query = "SELECT count(*) FROM passages WHERE organization_id = %s"
    return int(contents.rows("memory_svc", query, (tenant.uuid,))[0][0])


def _insert_many(registrar: Registrar, tenant: Tenant) -> None:
    for first in range(0, _PASSAGES, 500):
        passages = [archival.PassageSpec(text=f"{tenant.names.word} {n}") for n in range(first, first + 500)]
        request = archival.InsertPassagesRequest(agent_id=tenant.names.agent, passages=passages)
        registrar.do("hearth.memory.v1.ArchivalMemoryService/InsertPassages", request, tenant.tokens[Role.MEMBER])


def _look(registrar: Registrar, tenant: Tenant) -> organization_pb2.Organization:
    request = organizations.GetOrganizationRequest(organization_id=tenant.names.organization, include_deleted=True)
    return registrar.do("hearth.user.v1.OrganizationService/GetOrganization", request, registrar.platform).organization


def _points(stack: Stack, tenant: Tenant) -> int:
    """Of an organization in the vector index, read from its folder after the stack has stopped."""
    (folder,) = (path for path in (stack.home / "state" / "vectors").iterdir() if path.is_dir())
    shard = EdgeShard.load(str(folder))
    try:
        return shard.count(CountRequest(filter=of_organization(tenant.uuid), exact=True))
    finally:
        shard.close()


def test_nothing_stays_of_a_deleted_organization_and_everything_of_its_neighbour(
    own_stack: Stack, model_server: ThreadedModelServer
) -> None:
    with Doors(own_stack) as doors, Contents(own_stack) as contents:
        registrar = Registrar(own_stack, doors, model_server)
        gone, neighbour = registrar.tenant(), registrar.tenant()
        everywhere = _traces(contents, gone)
        # Those of no organization are not filled: work that waits is only there while it does.
        passing = {"memory_svc.outbox", "agent_svc.dispatches", *_OUTBOXES}
        assert _with_organization(contents) - set(everywhere) <= passing, "make a row of each table in tenants.py"
        _insert_many(registrar, gone)
        kept, kept_traces = _settled(contents, neighbour), _traces(contents, neighbour)

        delete = organizations.DeleteOrganizationRequest(organization_id=gone.names.organization, purge_now=True)
        registrar.do("hearth.user.v1.OrganizationService/DeleteOrganization", delete, registrar.platform)
        stored = _passages(contents, gone)
        _until(lambda: _passages(contents, gone) < stored, "the purge begins", every_s=0.002)
        left = _passages(contents, gone)
        own_stack.kill("memory_svc")
        own_stack.kill("agent_svc")
        assert left > 0, "it was over before anything could be killed"
        _until(lambda: _look(registrar, gone).purge.HasField("end_time"), "the purge ends", timeout_s=90)

        assert set(_traces(contents, gone)) <= _STAYS
        purge = {one.service: dict(one.removed) for one in _look(registrar, gone).purge.services}
        assert set(purge) == set(DATABASES)
        assert purge["memory_svc"]["passages"] > 0
        assert purge["tool_svc"]["tools"] == 2
        assert _settled(contents, neighbour) == kept
        assert set(_traces(contents, neighbour)) == set(kept_traces)
    own_stack.stop()
    assert _points(own_stack, gone) == 0
    assert _points(own_stack, neighbour) > 0
