"""What the agent loop and the managers need of tools. All act as the current identity and raise DomainError."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from agent_svc.domain.tool import Tool, ToolResult


class ToolCatalog(Protocol):
    """The organization's tools."""

    async def get_many(self, tool_ids: Sequence[UUID]) -> Sequence[Tool]:
        """Those that exist, in any order."""
        ...

    async def resolve(self, reference: str) -> Tool:
        """By id or by name. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class ToolSource:
    """What would make a tool: the fields of a ToolSpec by their names in JSON; None for one that cannot be made so (of an MCP server)."""

    name: str
    spec: dict[str, Any] | None


class ToolLibrary(Protocol):
    """The organization's tools as sources."""

    async def sources(self, tool_ids: Sequence[UUID]) -> Sequence[ToolSource]:
        """Those that exist, in the order of the ids."""
        ...

    async def named(self, name: str) -> ToolSource | None: ...

    async def checked(self, name: str, spec: dict[str, Any]) -> ToolSource:
        """The same as `sources` would give it. Raises BadSpec, InvalidArgument for a source that tool_svc would refuse."""
        ...

    async def put(self, source: ToolSource) -> None:
        """Makes the tool of this name, or makes it so."""
        ...


class ToolExecutor(Protocol):
    """Runs tools in the sandbox."""

    async def execute(self, tool: Tool, arguments_json: str, request_id: str) -> ToolResult:
        """The result as the model sees it; a tool that fails, or refuses its arguments, is a result too.

        A call that broke off has the outcome UNKNOWN. Raises Unavailable only when it has certainly not begun. Cancelling
        kills the call.
        """
        ...
