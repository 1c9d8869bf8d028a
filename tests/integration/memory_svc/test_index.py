"""The index as operators see it: status, reconciling in both directions, other engines and models."""

import asyncio
from pathlib import Path

import grpc
import psycopg
import pytest

from chassis.channels import open_channel
from chassis.errors import DomainError
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from hearth.memory.v1 import index_service_pb2 as index_pb
from hearth.memory.v1 import search_pb2
from hearth.memory.v1.index_service_pb2_grpc import IndexServiceStub
from tests.fakes.embedding_server import EmbeddingServer
from tests.fakes.qdrant_server import QdrantServer
from tests.integration.memory_svc.service import MemoryProcess, Organization, answers
from tests.integration.memory_svc.test_archival import FACTS, find, insert
from tests.integration.memory_svc.test_metadata_filters import CASES, write
from tests.integration.memory_svc.test_metadata_filters import found as noted
from tests.integration.memory_svc.test_recall import talk
from tests.support.databases import FreshDatabase
from tests.support.issuer import Issuer


async def reconcile(
    organization: Organization, channel: grpc.aio.Channel, *, dry_run: bool = False
) -> index_pb.ReconcileIndexResponse:
    stub = IndexServiceStub(channel)
    request = index_pb.ReconcileIndexRequest(dry_run=dry_run)
    return (await answers(stub.ReconcileIndex, organization.admin.identity, request))[-1]


async def settled(organization: Organization) -> index_pb.GetIndexStatusResponse:
    for _ in range(300):
        status = await organization.viewer.upkeep.GetIndexStatus(index_pb.GetIndexStatusRequest())
        if status.waiting_count == 0 and status.filled:
            return status
        await asyncio.sleep(0.1)
    raise AssertionError("the index does not catch up")


def counts(found: index_pb.ReconcileIndexResponse) -> tuple[int, int, int]:
    return found.orphaned_count, found.stale_count, found.missing_count


async def test_status(organization: Organization) -> None:
    await insert(organization, *FACTS)
    status = await settled(organization)
    assert (status.model, status.dimensions, status.lag_seconds) == ("all-MiniLM-L6-v2-int8", 384, 0.0)


async def test_differences_in_both_directions_are_found_and_repaired(
    organization: Organization, channel: grpc.aio.Channel, shared_database: FreshDatabase
) -> None:
    await insert(organization, *FACTS, "A long text. " * 200)
    await talk(organization)
    await settled(organization)
    clean = await reconcile(organization, channel)
    assert counts(clean) == (0, 0, 0)
    assert clean.item_count == len(FACTS) + 1 + 7
    assert clean.point_count > clean.item_count
    with psycopg.connect(shared_database.superuser_url, autocommit=True) as connection:
        tenant = {"tenant": str(organization.id)}
        for harm in (
            "DELETE FROM passages WHERE organization_id = %(tenant)s AND text LIKE 'Her cat%%'",
            "UPDATE passages SET version = 2 WHERE organization_id = %(tenant)s AND text LIKE 'They met%%'",
            "INSERT INTO messages SELECT organization_id, gen_random_uuid(), agent_id, conversation_id, 99, 'user', '',"
            " 'A line that nobody indexed.', now() FROM messages WHERE organization_id = %(tenant)s LIMIT 1",
        ):
            connection.execute(harm.encode(), tenant)
    assert counts(await reconcile(organization, channel, dry_run=True)) == (1, 1, 1)
    assert counts(await reconcile(organization, channel)) == (1, 1, 1)
    await settled(organization)
    assert counts(await reconcile(organization, channel)) == (0, 0, 0)
    assert FACTS[5] in await find(organization, "Where did they meet?")


async def test_reindexing_changes_nothing_that_is_found(organization: Organization, channel: grpc.aio.Channel) -> None:
    await insert(organization, *FACTS)
    await settled(organization)
    before = await find(organization, "what is her pet's name?")
    done = await organization.admin.upkeep.ReindexMemory(index_pb.ReindexMemoryRequest())
    assert done.queued_count == len(FACTS)
    assert await find(organization, "what is her pet's name?", consistency_token=done.consistency_token) == before
    await settled(organization)
    assert counts(await reconcile(organization, channel)) == (0, 0, 0)


async def test_upkeep_is_for_administrators(organization: Organization, channel: grpc.aio.Channel) -> None:
    with pytest.raises(DomainError) as refused:
        await organization.member.upkeep.ReindexMemory(index_pb.ReindexMemoryRequest())
    assert refused.value.code == "PERMISSION_DENIED"
    stub = IndexServiceStub(channel)
    with pytest.raises(DomainError) as refused:
        await answers(stub.ReconcileIndex, organization.member.identity, index_pb.ReconcileIndexRequest())
    assert refused.value.code == "PERMISSION_DENIED"


async def by_meaning(organization: Organization, query: str) -> tuple[list[str], bool]:
    request = pb.SearchPassagesRequest(query=query, agent_id=organization.agent, mode=search_pb2.SEARCH_MODE_DENSE)
    answer = await organization.viewer.archival.SearchPassages(request)
    return [hit.passage.text for hit in answer.hits], answer.degraded


async def test_a_server_instead_of_the_engine(own_service: MemoryProcess, issuer: Issuer, tmp_path: Path) -> None:
    async with QdrantServer(tmp_path / "qdrant") as server:
        own_service.configure(HEARTH_QDRANT_URL=server.url, HEARTH_VECTOR_PATH="")
        await asyncio.to_thread(own_service.start)
        async with open_channel(own_service.address) as channel:
            organization = Organization(channel, issuer)
            await insert(organization, *FACTS)
            await talk(organization)
            await write(organization)
            await settled(organization)
            found, degraded = await by_meaning(organization, "what is her pet's name?")
            assert (found[0], degraded) == (FACTS[0], False)
            assert counts(await reconcile(organization, channel)) == (0, 0, 0)
            await server.stop()
            request = pb.SearchPassagesRequest(query="peanuts", agent_id=organization.agent)
            without = await organization.viewer.archival.SearchPassages(request)
            assert without.degraded
            assert [hit.passage.text for hit in without.hits] == [FACTS[2]]
            for conditions, expected in CASES:
                assert await noted(organization, conditions, "") == expected, conditions
            await insert(organization, "Written while the server was away.")
        assert await asyncio.to_thread(own_service.stop) == 0


async def test_another_model_is_filled_while_searches_work(own_service: MemoryProcess, issuer: Issuer) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, issuer)
        await insert(organization, *FACTS)
        await settled(organization)
        assert own_service.stop() == 0
    async with EmbeddingServer(64) as server:
        own_service.configure(
            HEARTH_EMBEDDING_URL=server.url,
            HEARTH_EMBEDDING_MODEL="hashed/words:1",
            HEARTH_EMBEDDING_DIMENSIONS="64",
            HEARTH_EMBEDDING_API_KEY="canary",
        )
        await asyncio.to_thread(own_service.start)
        async with open_channel(own_service.address) as channel:
            organization.connect(channel)
            # By words while it is filled, by the new model's meaning afterwards: found in both.
            assert FACTS[2] in await find(organization, "peanuts")
            assert (await settled(organization)).model == "hashed/words:1"
            found, degraded = await by_meaning(organization, "allergic to peanuts")
            assert (found[0], degraded) == (FACTS[2], False)
            assert counts(await reconcile(organization, channel)) == (0, 0, 0)
            assert {request["authorization"] for request in server.requests} == {"Bearer canary"}
            server.failing = True
            answer = await organization.viewer.archival.SearchPassages(
                pb.SearchPassagesRequest(query="printer", agent_id=organization.agent)
            )
            assert answer.degraded
            assert [hit.passage.text for hit in answer.hits] == [FACTS[0]]
        assert await asyncio.to_thread(own_service.stop) == 0
    # Back to the first model, whose collection fell behind: it is filled again before searches rely on it.
    own_service.configure(HEARTH_EMBEDDING_URL="")
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization.connect(channel)
        await settled(organization)
        found, degraded = await by_meaning(organization, "what is her pet's name?")
        assert (found[0], degraded) == (FACTS[0], False)


async def test_dimensions_that_are_not_the_models_are_refused(own_service: MemoryProcess) -> None:
    async with EmbeddingServer(32) as server:
        own_service.configure(
            HEARTH_EMBEDDING_URL=server.url, HEARTH_EMBEDDING_MODEL="words", HEARTH_EMBEDDING_DIMENSIONS="64"
        )
        with pytest.raises(AssertionError) as refused:
            await asyncio.to_thread(own_service.start)
        assert "HEARTH_EMBEDDING_DIMENSIONS is 64, but words" in str(refused.value)


@pytest.mark.parametrize("missing", ["HEARTH_EMBEDDING_MODEL", "HEARTH_EMBEDDING_DIMENSIONS"])
def test_an_endpoint_needs_its_model_named(own_service: MemoryProcess, missing: str) -> None:
    settings = {
        "HEARTH_EMBEDDING_URL": "http://127.0.0.1:9/v1",
        "HEARTH_EMBEDDING_MODEL": "words",
        "HEARTH_EMBEDDING_DIMENSIONS": "64",
    }
    own_service.configure(**(settings | {missing: ""}))
    with pytest.raises(AssertionError) as refused:
        own_service.start()
    assert f"{missing} must be, too" in str(refused.value)
