"""Where tools live."""

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from tool_svc.domain.mcp_server import McpConnection, McpServer
from tool_svc.domain.quota import CallCount
from tool_svc.domain.secret import SealedSecret, Secret
from tool_svc.domain.tool import Tool, ToolContent, ToolFilter, ToolKind, ToolVersion


class ToolRepository(Protocol):
    """The tools of the transaction's organization. Every change adds a version, in the same transaction."""

    async def add(self, tool_id: UUID, name: str, kind: ToolKind, content: ToolContent, author: str) -> Tool:
        """A new tool, version 1. Raises AlreadyExists NAME_TAKEN."""
        ...

    async def put(self, tool_id: UUID, name: str, kind: ToolKind, content: ToolContent, author: str) -> Tool:
        """The tool of this name with this content: made (then it has `tool_id`), changed, or found to be so already.

        Raises AlreadyExists NAME_TAKEN when a tool of another kind has the name.
        """
        ...

    async def put_remote(
        self, tool_id: UUID, name: str, server_id: UUID, content: ToolContent, author: str
    ) -> tuple[Tool, bool]:
        """As `put`, for a tool of an MCP server, and whether that made a version. Raises AlreadyExists NAME_TAKEN."""
        ...

    async def of_server(self, server_id: UUID) -> Sequence[Tool]:
        """The tools of an MCP server, by name."""
        ...

    async def get(self, tool_id: UUID) -> Tool | None:
        """One that is not deleted."""
        ...

    async def named(self, name: str) -> Tool | None:
        """One that is not deleted, by its name."""
        ...

    async def get_for_update(self, tool_id: UUID) -> Tool | None:
        """One that is not deleted, which nobody else can change until the transaction ends."""
        ...

    async def exists(self, tool_id: UUID) -> bool:
        """Whether there is such a tool, or was."""
        ...

    async def page(self, which: ToolFilter, after_name: str | None, limit: int) -> Sequence[Tool]:
        """Tools by name. Fewer than `limit` when their sources are large; at least one if there is any."""
        ...

    async def change(self, tool_id: UUID, content: ToolContent, author: str) -> Tool:
        """A new version of one that was got for update."""
        ...

    async def delete(self, tool_id: UUID) -> None:
        """Marks one as deleted; its name is free again."""
        ...

    async def version(self, tool: Tool, version: int) -> Tool | None:
        """A tool as it was at a version."""
        ...

    async def versions(self, tool: Tool, before: int | None, limit: int) -> Sequence[ToolVersion]:
        """Versions, newest first. Fewer than `limit` when their sources are large; at least one if there is any."""
        ...


class CallCounter(Protocol):
    """Counts the calls of organizations, over all replicas, each in one round trip outside any transaction."""

    async def take(self, organization_id: UUID, limit: int | None) -> bool:
        """Counts one more, unless that would go beyond the limit: then False. On a connection that dies it may count twice."""
        ...

    async def now(self, organization_id: UUID) -> CallCount:
        """What is counted."""
        ...


class SecretRepository(Protocol):
    """The secrets of the transaction's organization, sealed."""

    async def put(self, secret_id: UUID, sealed: SealedSecret) -> Secret:
        """The secret of this name with this value: made (then it has `secret_id`) or changed."""
        ...

    async def page(self, after_name: str | None, limit: int) -> Sequence[Secret]:
        """Secrets by name."""
        ...

    async def delete(self, name: str) -> None:
        """Removes one, value and all."""
        ...


class CallReader(Protocol):
    """What every call of a tool looks up, each in one round trip outside any transaction."""

    async def tool(self, organization_id: UUID, which: UUID | str, version: int) -> Tool | None:
        """One that is not deleted, by id or name, as it was at a version (0: as it is now). Raises NotFound for the version."""
        ...

    async def secrets(self, organization_id: UUID, names: Collection[str]) -> Sequence[SealedSecret]:
        """Those of these names that there are."""
        ...


class McpServerRepository(Protocol):
    """The MCP servers of the transaction's organization."""

    async def add(self, server_id: UUID, name: str, connection: McpConnection) -> McpServer:
        """A new server. Raises AlreadyExists NAME_TAKEN."""
        ...

    async def get(self, server_id: UUID) -> McpServer | None:
        """One that is not deleted."""
        ...

    async def get_for_update(self, server_id: UUID) -> McpServer | None:
        """One that is not deleted, which nobody else can change or sync until the transaction ends."""
        ...

    async def exists(self, server_id: UUID) -> bool:
        """Whether there is such a server, or was."""
        ...

    async def count(self) -> int:
        """How many there are."""
        ...

    async def page(self, after_name: str | None, limit: int) -> Sequence[McpServer]:
        """Servers by name."""
        ...

    async def change(self, server_id: UUID, connection: McpConnection) -> McpServer:
        """A new revision of one that was got for update."""
        ...

    async def record_sync(self, server_id: UUID, error: str) -> McpServer:
        """Notes when the server was synced, or why it could not be."""
        ...

    async def delete(self, server_id: UUID) -> None:
        """Marks one as deleted; its name is free again."""
        ...
