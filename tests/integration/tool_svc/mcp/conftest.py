"""Real MCP servers, started by the tests, and connections to them."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from deploy.local.home import PROJECT
from deploy.local.ports import free_ports
from tests.fakes.mcp.hostile_server import HostileServer
from tests.integration.tool_svc.mcp.reachable import Programs
from tool_svc.adapters.mcp.client import McpConnections
from tool_svc.adapters.mcp.settings import McpSettings
from tool_svc.domain.mcp_server import McpConnection, McpServer, McpTransport

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.fixture(scope="session")
def programs(sandbox_dir: Path) -> Programs:
    folder = sandbox_dir / "programs"
    folder.mkdir(mode=0o755)
    return Programs(folder)


@pytest.fixture(scope="session")
def sdk_url() -> Iterator[str]:
    """The official SDK's server on streamable HTTP."""
    (port,) = free_ports(1)
    script = PROJECT / "tests" / "fakes" / "mcp" / "sdk_server.py"
    process = subprocess.Popen([sys.executable, str(script), str(port)], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        _wait_for(url)
        yield url
    finally:
        process.kill()
        process.wait()


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


def settings(scratch_root: Path, **values: Any) -> McpSettings:
    return replace(McpSettings(scratch_root, LOOPBACK), **values)


def http_server(url: str, **values: Any) -> McpServer:
    return _server(McpConnection(McpTransport.STREAMABLE_HTTP, url=url, **values))


def stdio_server(command: tuple[str, ...], **values: Any) -> McpServer:
    return _server(McpConnection(McpTransport.STDIO, command=command, **values))


def _server(connection: McpConnection) -> McpServer:
    now = datetime.now(UTC)
    return McpServer(uuid.uuid4(), uuid.uuid4(), "test", connection, 1, now, now)


async def silent(line: str) -> None:
    """Nobody watches the call."""


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits until something is so."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to be"
        await asyncio.sleep(0.05)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError):
            try:
                urllib.request.urlopen(url, timeout=1)
            except urllib.error.HTTPError:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing serves at {url}")
