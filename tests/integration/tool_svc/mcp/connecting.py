"""How tests name servers. Needs nothing that is not the product's, so that another user can run it too."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from tool_svc.adapters.mcp.settings import McpSettings
from tool_svc.domain.mcp_server import McpConnection, McpServer, McpTransport

_LOOPBACK = (ip_network("127.0.0.0/8"),)


def settings(scratch_root: Path, **values: Any) -> McpSettings:
    return replace(McpSettings(scratch_root, _LOOPBACK), **values)


def http_server(url: str, **values: Any) -> McpServer:
    return _server(McpConnection(McpTransport.STREAMABLE_HTTP, url=url, **values))


def stdio_server(command: tuple[str, ...], **values: Any) -> McpServer:
    return _server(McpConnection(McpTransport.STDIO, command=command, **values))


def _server(connection: McpConnection) -> McpServer:
    now = datetime.now(UTC)
    return McpServer(uuid.uuid4(), uuid.uuid4(), "test", connection, 1, now, now)


async def silent(line: str) -> None:
    """Nobody watches the call."""
