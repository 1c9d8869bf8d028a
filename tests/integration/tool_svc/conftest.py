"""tool_svc as a process with a real database and the real sandbox."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

import tool_svc
from chassis.channels import open_channel
from tests.integration.tool_svc.service import Organization, ToolProcess
from tests.support.databases import Databases, FreshDatabase, databases
from tests.support.issuer import Issuer

__all__ = ["databases"]

MIGRATIONS = Path(str(tool_svc.__file__)).parent / "migrations"


@pytest.fixture(scope="session")
def issuer() -> Iterator[Issuer]:
    running = Issuer()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def tool_database(databases: Databases) -> FreshDatabase:
    return databases.fresh(MIGRATIONS)


@pytest.fixture(scope="session")
def sandbox_dir() -> Iterator[Path]:
    """Where other users may pass, which pytest's own folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="hearth-sandbox-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def service(
    tool_database: FreshDatabase, issuer: Issuer, tmp_path_factory: pytest.TempPathFactory, sandbox_dir: Path
) -> Iterator[ToolProcess]:
    """One process for all tests that do not break it."""
    running = ToolProcess(tool_database.url, issuer, tmp_path_factory.mktemp("tool_svc"), sandbox_dir / "shared")
    running.start()
    yield running
    assert running.stop() == 0
    assert "did not stop well" not in running.log.read_text()


@pytest.fixture
def own_service(databases: Databases, issuer: Issuer, tmp_path: Path, sandbox_dir: Path) -> Iterator[ToolProcess]:
    """A process of the test's own, not started yet."""
    made = ToolProcess(databases.fresh(MIGRATIONS).url, issuer, tmp_path, sandbox_dir / tmp_path.name)
    yield made
    made.stop()


@pytest.fixture
async def channel(service: ToolProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(service.address) as opened:
        yield opened


@pytest.fixture
def organization(channel: grpc.aio.Channel, issuer: Issuer) -> Organization:
    return Organization(channel, issuer)


@pytest.fixture
def stranger(channel: grpc.aio.Channel, issuer: Issuer) -> Organization:
    """Another organization."""
    return Organization(channel, issuer)
