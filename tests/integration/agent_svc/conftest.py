"""A database, a NATS and a model server for agent_svc's tests; a replica over them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.nats_server import NatsServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica
from tests.support.databases import Databases, databases

__all__ = ["databases"]

MIGRATIONS = Path(__file__).parents[3] / "services" / "agent_svc" / "migrations"


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
async def model() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer() as server:
        yield server


@pytest.fixture
def addresses(databases: Databases, nats: NatsServer, model: FakeModelServer) -> Addresses:
    return Addresses(databases.fresh(MIGRATIONS).url, nats.url, model.url)


@pytest.fixture
async def here(addresses: Addresses) -> AsyncIterator[Replica]:
    """A replica that works and answers."""
    async with replica(addresses) as running:
        yield running
