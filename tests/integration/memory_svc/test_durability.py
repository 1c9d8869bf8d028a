"""What survives: kill -9, a lost index, a second process."""

import asyncio
import shutil
import subprocess
import sys

import psycopg
import pytest

from chassis.channels import open_channel
from chassis.errors import DomainError
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from hearth.memory.v1 import block_service_pb2 as block_pb
from tests.integration.memory_svc.service import MemoryProcess, Organization
from tests.integration.memory_svc.test_archival import FACTS, find, insert
from tests.integration.memory_svc.test_blocks import create, get
from tests.integration.memory_svc.test_recall import search, talk
from tests.support.databases import FreshDatabase
from tests.support.issuer import Issuer


async def _eventually_found(organization: Organization) -> str:
    """The best hit once the index has been filled again."""
    for _ in range(100):
        if hits := await find(organization, "what is her pet called?"):
            return hits[0]
        await asyncio.sleep(0.1)
    return ""


async def _eventually_recalled(organization: Organization, query: str) -> str:
    """The best message; while the index is filled, words alone answer, and those of the question are not in it."""
    for _ in range(100):
        if hits := await search(organization, query):
            return hits[0].message.text
        await asyncio.sleep(0.1)
    return ""


TABLES = (
    "blocks",
    "block_versions",
    "agent_blocks",
    "passages",
    "passage_versions",
    "passage_imports",
    "messages",
    "agent_memory",
    "forgotten",
    "request_ids",
)


async def test_acknowledged_writes_survive_kill_minus_nine(own_service: MemoryProcess, issuer: Issuer) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, issuer)
        block = await create(organization, value="kept")
        inserted = await insert(organization, *[f"Crate {n} holds {n * 7} lemons." for n in range(200)])
        doomed = [passage.id for passage in inserted.passages[:50]]
        for passage_id in doomed:
            await organization.member.archival.DeletePassage(pb.DeletePassageRequest(passage_id=passage_id))
        # In the middle of indexing.
        own_service.kill()
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization.connect(channel)
        assert (await get(organization, block.id)).value == "kept"
        found: set[str] = set()
        for number in (60, 99, 150, 199):
            hits = await find(
                organization, f"Crate {number} lemons", top_k=5, consistency_token=inserted.consistency_token
            )
            found |= set(hits)
            assert f"Crate {number} holds {number * 7} lemons." in hits
        request = pb.SearchPassagesRequest(query="crate of lemons", top_k=200)
        everything = await organization.viewer.archival.SearchPassages(request)
        assert {hit.passage.id for hit in everything.hits} == {passage.id for passage in inserted.passages} - set(
            doomed
        )


async def test_a_lost_index_is_filled_again(own_service: MemoryProcess, issuer: Issuer) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organizations = [Organization(channel, issuer) for _ in range(2)]
        for organization in organizations:
            token = (await insert(organization, *FACTS)).consistency_token
            await talk(organization)
            await find(organization, "cat", consistency_token=token)
        assert own_service.stop() == 0
    shutil.rmtree(own_service.vectors)
    own_service.start()
    async with open_channel(own_service.address) as channel:
        for organization in organizations:
            organization.connect(channel)
            assert await _eventually_found(organization) == FACTS[0]
            assert "Bergen" in await _eventually_recalled(organization, "which city did the person relocate to?")


async def test_an_unreadable_index_is_filled_again(own_service: MemoryProcess, issuer: Issuer) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, issuer)
        token = (await insert(organization, *FACTS)).consistency_token
        await find(organization, "cat", consistency_token=token)
        assert own_service.stop() == 0
        [shard] = own_service.vectors.iterdir()
        for file in (shard / "segments").rglob("*"):
            if file.is_file():
                file.write_bytes(b"\xff" * 64)
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization.connect(channel)
        assert await _eventually_found(organization) == FACTS[0]


def test_one_process_holds_the_index(service: MemoryProcess) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from memory_svc.adapters.qdrant_edge import QdrantEdgeIndex\n"
        "index = QdrantEdgeIndex(pathlib.Path(sys.argv[1]), model='all-MiniLM-L6-v2-int8', dimensions=384, patience_s=0.5)\n"
        "asyncio.run(index.open())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(service.vectors)], capture_output=True, timeout=30)
    assert ended.returncode != 0
    assert b"only one memory service" in ended.stderr


async def test_the_database_itself_refuses(
    shared_database: FreshDatabase, organization: Organization, stranger: Organization
) -> None:
    await create(organization, value="x")
    await insert(organization, *FACTS[:1])
    await talk(organization)
    async with await psycopg.AsyncConnection.connect(shared_database.url) as connection:
        for table in TABLES:
            for tenant in ("", str(stranger.id)):
                async with connection.transaction():
                    await connection.execute("SELECT set_config('hearth.organization_id', %s, true)", [tenant])
                    rows = await connection.execute(f"SELECT organization_id FROM {table}".encode())
                    assert organization.id not in {row[0] for row in await rows.fetchall()}, table
        await connection.execute("SELECT set_config('hearth.organization_id', %s, false)", [str(stranger.id)])
        values = [str(organization.id), str(organization.id)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("INSERT INTO forgotten (organization_id, id) VALUES (%s, %s)", values)
        await connection.rollback()
        unprotected = await connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND NOT (relrowsecurity AND relforcerowsecurity)"
        )
        assert {row[0] for row in await unprotected.fetchall()} == {
            "alembic_version",
            "outbox",
            "memory_organizations",
            "index_collections",
        }


async def test_without_the_database_the_answer_is_unavailable_and_it_heals(
    own_service: MemoryProcess, issuer: Issuer
) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, issuer)
        await create(organization, value="before")
        async with await psycopg.AsyncConnection.connect(own_service.superuser_url, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        page = await organization.viewer.blocks.ListBlocks(block_pb.ListBlocksRequest())
        assert [block.value for block in page.blocks] == ["before"]


async def test_a_stopping_service_refuses_cleanly(own_service: MemoryProcess, issuer: Issuer) -> None:
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization = Organization(channel, issuer)
        writes = [asyncio.create_task(insert(organization, f"Note {n} before the end.")) for n in range(20)]
        await asyncio.sleep(0.05)
        assert await asyncio.to_thread(own_service.stop) == 0
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        kept = {outcome.passages[0].text for outcome in outcomes if isinstance(outcome, pb.InsertPassagesResponse)}
        assert all(
            isinstance(outcome, pb.InsertPassagesResponse | DomainError) and getattr(outcome, "code", "") != "INTERNAL"
            for outcome in outcomes
        )
    own_service.start()
    async with open_channel(own_service.address) as channel:
        organization.connect(channel)
        page = await organization.viewer.archival.ListPassages(pb.ListPassagesRequest(page_size=200))
        assert kept <= {passage.text for passage in page.passages}
