"""Implements interfaces.mcp.McpClient: a connection to each server in use, kept for a while after the last call."""

import asyncio
import contextvars
import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from chassis.tasks import end_task
from tool_svc.adapters.mcp.budget import Budget
from tool_svc.adapters.mcp.connection import Connection, OnFailure, Session
from tool_svc.adapters.mcp.settings import McpSettings
from tool_svc.domain.mcp_server import MAX_TOOLS, McpServer, McpTransport, RemoteTool
from tool_svc.interfaces.mcp import McpBusy, McpFailed, OnProgress, RemoteResult

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

_MAX_PAGES = 50
_BUSY_RETRY_AFTER_S = 1.0
# One organization may hold a quarter of the connections.
_SHARES = 4
_SDK = "tool_svc.adapters.mcp.session"
_PROCESSES = "tool_svc.adapters.mcp.stdio"


@dataclass(frozen=True)
class _Kept:
    connection: Connection
    # Of the server's revision and the secrets' values: another one needs another connection.
    fingerprint: bytes


class McpConnections:
    """Connections by server."""

    def __init__(self, settings: McpSettings) -> None:
        self._settings = settings
        self._kept: dict[UUID, _Kept] = {}
        # All that have not ended yet, those that take no more calls included.
        self._alive: set[Connection] = set()
        self._reaper: asyncio.Task[None] | None = None
        self._processes: Any = None
        self._stopped = False

    def allows(self, transport: McpTransport) -> bool:
        return transport is not McpTransport.STDIO or self._settings.stdio

    async def list_tools(self, server: McpServer, secrets: Mapping[str, str]) -> Sequence[RemoteTool]:
        sdk = await _sdk()

        async def read(session: Session) -> list[RemoteTool]:
            found: list[RemoteTool] = []
            cursor: str | None = None
            for _ in range(_MAX_PAGES):
                try:
                    page = await session.list_page(cursor)
                except sdk.ToolRefused as refused:
                    raise McpFailed(f"it does not list its tools: {refused}") from refused
                found += _tools_on(page)
                cursor = page.get("nextCursor")
                if len(found) > MAX_TOOLS:
                    raise McpFailed(f"it has more than {MAX_TOOLS} tools")
                if not isinstance(cursor, str) or not cursor:
                    return found
            raise McpFailed("its list of tools has no end")

        return await self._use(server, secrets, read, server.connection.timeout_s)

    async def call(
        self,
        server: McpServer,
        secrets: Mapping[str, str],
        tool: str,
        arguments: Mapping[str, Any],
        timeout_s: float,
        on_progress: OnProgress,
    ) -> RemoteResult:
        sdk = await _sdk()

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            amount = f"{progress:g}" if total is None else f"{progress:g}/{total:g}"
            await on_progress(f"{amount} {message}" if message else amount)

        async def work(session: Session) -> RemoteResult:
            try:
                return sdk.result_of(await session.call_tool(tool, dict(arguments), progressed))
            except sdk.ToolRefused as refused:
                return RemoteResult(None, is_error=True, error_text=str(refused))

        return await self._use(server, secrets, work, timeout_s)

    async def forget(self, server_id: UUID) -> None:
        kept = self._kept.pop(server_id, None)
        if kept is not None:
            kept.connection.retire()

    async def stop(self) -> None:
        """End all connections."""
        self._stopped = True
        if self._reaper is not None:
            await end_task(self._reaper)
        await asyncio.gather(*(connection.end() for connection in self._alive))
        self._alive.clear()
        self._kept.clear()
        if self._processes is not None:
            await asyncio.to_thread(self._processes.close)

    @property
    def open_connections(self) -> int:
        """How many have not ended, for operators and tests."""
        return sum(not connection.ended for connection in self._alive)

    async def _use(
        self,
        server: McpServer,
        secrets: Mapping[str, str],
        work: Callable[[Session], Any],
        timeout_s: float,
    ) -> Any:
        connection = self._connection(server, secrets)
        was_used = connection.used
        try:
            return await connection.use(work, timeout_s)
        except McpFailed as failure:
            # An old session that the server no longer knows, found out before anything was done: try a new one.
            if failure.begun or not was_used:
                raise
        return await self._connection(server, secrets).use(work, timeout_s)

    def _connection(self, server: McpServer, secrets: Mapping[str, str]) -> Connection:
        """One that takes calls. Raises McpBusy, McpFailed."""
        fingerprint = _fingerprint(server, secrets)
        kept = self._kept.get(server.id)
        if kept is not None and not kept.connection.retired:
            if kept.fingerprint == fingerprint:
                return kept.connection
            kept.connection.retire()
        if self._stopped:
            raise McpFailed("this server is shutting down")
        self._make_room(server.organization_id)
        connection = self._connect(server, secrets)
        self._kept[server.id] = _Kept(connection, fingerprint)
        self._alive.add(connection)
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap(), context=contextvars.Context())
        return connection

    def _connect(self, server: McpServer, secrets: Mapping[str, str]) -> Connection:
        budget = Budget(self._settings.max_bytes, self._settings.max_lines)
        sdk = sys.modules[_SDK]
        if self._processes is None:
            self._processes = sys.modules[_PROCESSES].StdioProcesses(self._settings)

        def open_session(on_failure: OnFailure) -> "AbstractAsyncContextManager[Session]":
            return sdk.open_session(server, secrets, self._settings, self._processes, budget, on_failure)

        return Connection(server.organization_id, open_session, budget)

    def _make_room(self, owner: UUID) -> None:
        """Raises McpBusy when all connections, or all that one organization may have, are in use or ending."""
        self._forget_ended()
        own = [connection for connection in self._alive if connection.owner == owner]
        share = max(1, self._settings.max_connections // _SHARES)
        if len(own) >= share:
            crowd = own
        elif len(self._alive) >= self._settings.max_connections:
            crowd = list(self._alive)
        else:
            return
        idle = [connection for connection in crowd if connection.calls == 0 and not connection.retired]
        if idle:
            min(idle, key=lambda connection: connection.last_used).retire()
        # Its place is free when it has ended; the caller comes again.
        raise McpBusy(_BUSY_RETRY_AFTER_S)

    def _forget_ended(self) -> None:
        self._alive = {connection for connection in self._alive if not connection.ended}
        self._kept = {server: kept for server, kept in self._kept.items() if not kept.connection.retired}

    async def _reap(self) -> None:
        """Ends connections that nobody has used for a while."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.idle_s / 4)
            for connection in self._alive:
                if connection.calls == 0 and loop.time() - connection.last_used > self._settings.idle_s:
                    connection.retire()
            self._forget_ended()


async def _sdk() -> Any:
    """The module that imports the SDK: late, and not in the event loop."""
    return await asyncio.to_thread(importlib.import_module, _SDK)


def _fingerprint(server: McpServer, secrets: Mapping[str, str]) -> bytes:
    text = json.dumps([server.revision, sorted(secrets.items())])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _tools_on(page: Mapping[str, Any]) -> list[RemoteTool]:
    """The tools on a page, as far as they look like tools at all. Raises McpFailed."""
    listed = page.get("tools")
    if not isinstance(listed, list):
        raise McpFailed("its list of tools is none")
    return [_tool(one) for one in listed]


def _tool(one: Any) -> RemoteTool:
    described: Mapping[str, Any] = one if isinstance(one, dict) else {}
    name, description = described.get("name"), described.get("description")
    hints = described.get("annotations")
    return RemoteTool(
        name=name if isinstance(name, str) else "",
        description=description if isinstance(description, str) else "",
        parameters=described.get("inputSchema"),
        idempotent=isinstance(hints, dict)
        and (hints.get("idempotentHint") is True or hints.get("readOnlyHint") is True),
    )
