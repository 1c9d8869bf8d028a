"""MCP servers: registered, changed, synced, deleted together with their tools."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from chassis import ids
from chassis.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    etag_mismatch,
)
from chassis.identity import Identity
from chassis.once import Once
from tool_svc.domain import json_schema
from tool_svc.domain import mcp_server as rules
from tool_svc.domain.masking import Mask
from tool_svc.domain.mcp_server import McpConnection, McpServer, RemoteTool
from tool_svc.domain.tool import Tool, ToolContent
from tool_svc.interfaces.mcp import McpBusy, McpClient, McpFailed, McpTimedOut
from tool_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from tool_svc.interfaces.vault import SecretReader
from tool_svc.managers.tool_manager import author_of

_MAX_SYNC_ERROR = 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """A tool of a server that was not taken, and why."""

    name: str
    problem: str


@dataclass(slots=True)
class Synced:
    """What a sync did, in names of tools."""

    server: McpServer
    added: list[str] = field(default_factory=list[str])
    updated: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    refused: list[Refusal] = field(default_factory=list[Refusal])


class McpServerManager:
    """Business rules of MCP servers. `max_servers` is what one organization may have."""

    def __init__(self, unit_of_work: UnitOfWork, client: McpClient, secrets: SecretReader, max_servers: int) -> None:
        self._work = unit_of_work
        self._client = client
        self._secrets = secrets
        self._max_servers = max_servers

    async def create(self, caller: Identity, name: str, connection: McpConnection, once: Once[McpServer]) -> McpServer:
        """A new server; nothing is connected to yet.

        Raises InvalidArgument, FailedPrecondition MCP_TRANSPORT_DISABLED, AlreadyExists NAME_TAKEN, ResourceExhausted.
        """
        self._require_allowed(connection)
        async with self._work.of(caller.organization_id) as work, work.once(once.key) as answer:
            if await work.mcp_servers.count() >= self._max_servers:
                message = f"an organization may have at most {self._max_servers} MCP servers"
                raise ResourceExhausted(message, reason="QUOTA_EXCEEDED")
            server = await work.mcp_servers.add(ids.new(), name, connection)
            answer.save(once.encode(server))
        return server

    async def get(self, caller: Identity, server_id: UUID) -> McpServer:
        """One by id. Raises NotFound."""
        async with self._work.of(caller.organization_id) as work:
            return require_server(await work.mcp_servers.get(server_id), server_id)

    async def page(self, caller: Identity, after_name: str | None, size: int) -> tuple[Sequence[McpServer], bool]:
        """A page by name, and whether there is more."""
        async with self._work.of(caller.organization_id) as work:
            found = await work.mcp_servers.page(after_name, size + 1)
        return found[:size], len(found) > size

    async def update(self, caller: Identity, server_id: UUID, changes: Mapping[str, Any], etag: str) -> McpServer:
        """Applies changes to fields of the connection. Raises as `create`, and NotFound, Aborted ETAG_MISMATCH."""
        async with self._work.of(caller.organization_id) as work:
            server = require_server(await work.mcp_servers.get_for_update(server_id), server_id)
            if etag and etag != server.etag:
                raise etag_mismatch()
            connection = replace(server.connection, **changes)
            self._require_allowed(connection)
            if connection == server.connection:
                return server
            changed = await work.mcp_servers.change(server_id, connection)
        await self._client.forget(server_id)
        return changed

    async def delete(self, caller: Identity, server_id: UUID) -> None:
        """Removes a server and its tools. Twice is OK. Raises NotFound for one that never was."""
        async with self._work.of(caller.organization_id) as work:
            if not await work.mcp_servers.exists(server_id):
                raise ids.absent("mcp", server_id)
            await work.mcp_servers.get_for_update(server_id)
            await work.mcp_servers.delete(server_id)
            for tool in await work.tools.of_server(server_id):
                await work.tools.delete(tool.id)
        await self._client.forget(server_id)

    async def sync(self, caller: Identity, server_id: UUID) -> Synced:
        """Reads the server's tools into the organization; what cannot be a tool is refused, the rest taken.

        Raises NotFound, FailedPrecondition MCP_SERVER_FAILED (noted at the server too), Aborted when the server was
        changed meanwhile.
        """
        server = await self.get(caller, server_id)
        self._require_allowed(server.connection)
        try:
            offered, mask = await self._offered(server)
        except FailedPrecondition as failure:
            async with self._work.of(caller.organization_id) as work:
                if await work.mcp_servers.get_for_update(server_id):
                    await work.mcp_servers.record_sync(server_id, failure.message[:_MAX_SYNC_ERROR])
            raise
        async with self._work.of(caller.organization_id) as work:
            now = require_server(await work.mcp_servers.get_for_update(server_id), server_id)
            if now.revision != server.revision:
                raise Aborted("the server was changed while it was synced", reason="ETAG_MISMATCH")
            synced = Synced(server)
            await _take(work, synced, offered, mask, author_of(caller))
            synced.server = await work.mcp_servers.record_sync(server_id, "")
        return synced

    async def _offered(self, server: McpServer) -> tuple[Sequence[RemoteTool], Mask]:
        """The tools as the server describes them, and what takes its secrets out of that."""
        secrets: Mapping[str, str] = {}
        try:
            secrets = await secrets_of(server, self._secrets)
            return await self._client.list_tools(server, secrets), Mask(secrets)
        except McpFailed as failure:
            raise server_failed(Mask(secrets).text(failure.message)) from failure
        except McpTimedOut as late:
            raise server_failed("it did not answer in time") from late
        except McpBusy as busy:
            raise ResourceExhausted(str(busy), reason="RATE_LIMITED", retry_after_s=busy.retry_after_s) from None

    def _require_allowed(self, connection: McpConnection) -> None:
        rules.check_connection(connection)
        if not self._client.allows(connection.transport):
            message = "the operator of this Hearth does not allow MCP servers on stdio"
            raise FailedPrecondition(message, reason="MCP_TRANSPORT_DISABLED")


def require_server(server: McpServer | None, server_id: UUID) -> McpServer:
    """The server, or the NotFound of an absent id."""
    if server is None:
        raise ids.absent("mcp", server_id)
    return server


async def secrets_of(server: McpServer, reader: SecretReader) -> Mapping[str, str]:
    """The secrets that a server needs, by name. Raises McpFailed naming one that there is not."""
    names = server.connection.secret_names
    if not names:
        return {}
    found = await reader.read(server.organization_id, names)
    missing = [name for name in names if name not in found]
    if missing:
        raise McpFailed(f"the secret {missing[0]} is not set")
    return found


def server_failed(message: str) -> FailedPrecondition:
    """The answer about a server that is not as it must be."""
    return FailedPrecondition(f"the MCP server failed: {message}", reason="MCP_SERVER_FAILED")


async def _take(work: Transaction, synced: Synced, offered: Sequence[RemoteTool], mask: Mask, author: str) -> None:
    """Make the server's tools those that it offers."""
    before = {tool.name: tool for tool in await work.tools.of_server(synced.server.id)}
    taken: set[str] = set()
    for remote in offered:
        name = rules.tool_name(synced.server.name, remote.name)
        try:
            if name in taken:
                raise InvalidArgument(f"another tool of this server is called {name} too", reason="TOOL_SCHEMA_INVALID")
            content = await asyncio.to_thread(_content, remote, before.get(name), mask)
            await _put(work, synced, name, content, author, is_new=name not in before)
        except (InvalidArgument, AlreadyExists) as refused:
            synced.refused.append(Refusal(mask.text(rules.shown_name(remote.name)), mask.text(refused.message)))
        else:
            taken.add(name)
    for name, tool in before.items():
        if name not in taken:
            await work.tools.delete(tool.id)
            synced.removed.append(name)


def _content(remote: RemoteTool, before: Tool | None, mask: Mask) -> ToolContent:
    """What the server says of a tool, secrets taken out, with the tags and settings that it has here."""
    content = rules.content_of(remote, before.content.settings if before else None)
    try:
        parameters = mask.value(content.parameters)
    except RecursionError:
        raise InvalidArgument("the schema is nested too deeply", reason="TOOL_SCHEMA_INVALID") from None
    if parameters != content.parameters:
        json_schema.check_parameters(parameters)
    tags = before.content.tags if before else ()
    return replace(content, description=mask.text(content.description), parameters=parameters, tags=tags)


async def _put(
    work: Transaction, synced: Synced, name: str, content: ToolContent, author: str, *, is_new: bool
) -> None:
    try:
        _, changed = await work.tools.put_remote(ids.new(), name, synced.server.id, content, author)
    except AlreadyExists:
        raise AlreadyExists(f"a tool named {name} that is not this server's exists", reason="NAME_TAKEN") from None
    if is_new:
        synced.added.append(name)
    elif changed:
        synced.updated.append(name)
