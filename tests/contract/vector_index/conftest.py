"""The implementations: Qdrant Edge in the process; the server adapter on qdrant-client's local mode and over gRPC.

There is no Qdrant server among the packages, so the gRPC one is a small server of ours on Qdrant's published protocol, with an
Edge shard behind it (tests/fakes/qdrant_server.py). It shows that the adapter speaks the protocol, not that the server does
what it says.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from memory_svc.adapters.qdrant_edge import QdrantEdgeIndex
from memory_svc.adapters.qdrant_server import QdrantServerIndex
from memory_svc.interfaces.vector_index import VectorIndex
from tests.contract.vector_index.test_vector_index import DIMENSIONS
from tests.fakes.qdrant_server import QdrantServer


@pytest.fixture(params=["edge", "server in local mode", "server over gRPC"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VectorIndex]:
    if request.param == "edge":
        opened: VectorIndex = QdrantEdgeIndex(tmp_path, model="test", dimensions=DIMENSIONS)
        await opened.open()
        yield opened
        await opened.close()
    elif request.param == "server in local mode":
        opened = QdrantServerIndex(AsyncQdrantClient(":memory:"), model="test", dimensions=DIMENSIONS)
        await opened.open()
        yield opened
        await opened.close()
    else:
        async with QdrantServer(tmp_path) as server:
            opened = QdrantServerIndex(server.client(), model="test", dimensions=DIMENSIONS)
            await opened.open()
            yield opened
            await opened.close()
