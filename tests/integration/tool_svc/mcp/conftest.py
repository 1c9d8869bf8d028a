"""Real MCP servers, started by the tests, and connections to them."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.mcp.hostile_server import HostileServer
from tests.fakes.mcp.sdk_process import serving_sdk
from tests.integration.tool_svc.mcp.connecting import http_server, settings, silent, stdio_server
from tests.integration.tool_svc.mcp.reachable import Programs
from tool_svc.adapters.mcp.client import McpConnections

__all__ = ["http_server", "settings", "silent", "stdio_server"]


@pytest.fixture(scope="session")
def programs(sandbox_dir: Path) -> Programs:
    folder = sandbox_dir / "programs"
    folder.mkdir(mode=0o755)
    return Programs(folder)


@pytest.fixture(scope="session")
def sdk_url() -> Iterator[str]:
    """The official SDK's server on streamable HTTP."""
    with serving_sdk() as url:
        yield url


@pytest.fixture
async def hostile() -> AsyncIterator[HostileServer]:
    server = HostileServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def scratch_root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hearth-mcp-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def connections(scratch_root: Path, programs: Programs) -> AsyncIterator[McpConnections]:
    """Connections that may reach this host, and start processes."""
    made = McpConnections(settings(scratch_root, stdio=True, stdio_paths=(programs.folder,)))
    yield made
    await made.stop()
    assert made.open_connections == 0


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits until something is so."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to be"
        await asyncio.sleep(0.05)
