"""A server that is gone is Unavailable, whatever is asked of it."""

import uuid
from pathlib import Path

import pytest

from chassis.errors import Unavailable
from memory_svc.adapters.qdrant_server import QdrantServerIndex
from memory_svc.domain.search import Signal
from tests.contract.vector_index.test_vector_index import DIMENSIONS, OURS, point, scope, toward, words
from tests.fakes.qdrant_server import QdrantServer


async def test_an_outage(tmp_path: Path) -> None:
    async with QdrantServer(tmp_path) as server:
        index = QdrantServerIndex(server.client(), model="test", dimensions=DIMENSIONS)
        await index.open()
        await index.upsert([point(uuid.uuid4())])
        await server.stop()
        calls = (
            lambda: index.open(),
            lambda: index.upsert([point(uuid.uuid4())]),
            lambda: index.set_windows({uuid.uuid4(): words(1)}),
            lambda: index.delete_item(OURS, uuid.uuid4()),
            lambda: index.delete_points([uuid.uuid4()]),
            lambda: index.search(scope(), {Signal.DENSE: toward(0)}, 5),
            lambda: index.resolve([uuid.uuid4()]),
            lambda: index.scan(OURS, None, 5),
            lambda: index.count(),
        )
        for call in calls:
            with pytest.raises(Unavailable):
                await call()
        await index.close()


async def test_the_collection_has_its_indexes(tmp_path: Path) -> None:
    async with QdrantServer(tmp_path) as server:
        index = QdrantServerIndex(server.client(), model="test", dimensions=DIMENSIONS)
        await index.open()
        assert {"organization_id", "agent_id", "tags", "time_ms", "version"} <= server.indexes.keys()
        await index.close()
