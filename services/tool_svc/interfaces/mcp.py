"""MCP servers as the managers see them: foreign, perhaps hostile, perhaps gone."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from tool_svc.domain.execution import ExecutionLimits, SandboxEvent
from tool_svc.domain.mcp_server import McpServer, McpTransport, RemoteTool
from tool_svc.domain.tool import Tool

# Told of each progress notification of a call, as one line.
OnProgress = Callable[[str], Awaitable[None]]


class McpFailed(Exception):
    """The server cannot be reached, ended, or sent what it must not. The message can be shown to callers.

    `begun`: whether the call may have reached it, so that its effect is unknown.
    """

    def __init__(self, message: str, *, begun: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.begun = begun


class McpTimedOut(Exception):
    """The server did not answer in time."""


class McpBusy(Exception):
    """As many servers as allowed are in use; try again after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("as many MCP servers as this server allows are in use")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class RemoteResult:
    """What a call gave: a JSON value, or, if the tool says that it failed, its words."""

    value: Any
    is_error: bool
    error_text: str = ""


class McpClient(Protocol):
    """Speaks to MCP servers. Connections are kept for a while; a changed revision of a server gets a new one."""

    def allows(self, transport: McpTransport) -> bool:
        """Whether the operator allows this way of reaching servers."""
        ...

    async def list_tools(self, server: McpServer, secrets: Mapping[str, str]) -> Sequence[RemoteTool]:
        """All its tools. Raises McpFailed, McpTimedOut, McpBusy."""
        ...

    async def call(
        self,
        server: McpServer,
        secrets: Mapping[str, str],
        tool: str,
        arguments: Mapping[str, Any],
        timeout_s: float,
        on_progress: OnProgress,
    ) -> RemoteResult:
        """Calls a tool; cancelling tells the server and waits for nothing. Raises McpFailed, McpTimedOut, McpBusy."""
        ...

    async def forget(self, server_id: UUID) -> None:
        """Ends what is open to a server."""
        ...


class RemoteExecutor(Protocol):
    """Runs tools that are not source."""

    def execute(
        self, tool: Tool, arguments: Mapping[str, Any], limits: ExecutionLimits
    ) -> AsyncGenerator[SandboxEvent]:
        """As `Sandbox.execute`. Raises DomainError before the first event."""
        ...
