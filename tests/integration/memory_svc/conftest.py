"""memory_svc as a process with a real database, the real embedder and the real index."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

import memory_svc
from chassis.channels import open_channel
from tests.integration.memory_svc.service import MemoryProcess, Organization
from tests.support.databases import Databases, FreshDatabase, databases
from tests.support.issuer import Issuer

__all__ = ["databases"]

MIGRATIONS = Path(str(memory_svc.__file__)).parent / "migrations"


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def shared_database(databases: Databases) -> FreshDatabase:
    return databases.fresh(MIGRATIONS)


@pytest.fixture(scope="session")
def service(
    shared_database: FreshDatabase, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MemoryProcess]:
    """One process for all tests that do not break it."""
    running = MemoryProcess(shared_database, issuer, tmp_path_factory.mktemp("memory_svc"))
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def own_service(databases: Databases, issuer: Issuer, tmp_path: Path) -> Iterator[MemoryProcess]:
    """A process of the test's own, not started yet."""
    made = MemoryProcess(databases.fresh(MIGRATIONS), issuer, tmp_path)
    yield made
    made.stop()


@pytest.fixture
async def channel(service: MemoryProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(service.address) as opened:
        yield opened


@pytest.fixture
def organization(channel: grpc.aio.Channel, issuer: Issuer) -> Organization:
    return Organization(channel, issuer)


@pytest.fixture
def stranger(channel: grpc.aio.Channel, issuer: Issuer) -> Organization:
    """Another organization."""
    return Organization(channel, issuer)
