"""What the agent loop and the managers need of tools. All act as the current identity and raise DomainError."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
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


class ToolExecutor(Protocol):
    """Runs tools in the sandbox."""

    async def execute(self, tool: Tool, arguments_json: str, request_id: str) -> ToolResult:
        """The result as the model sees it; a tool that fails, or refuses its arguments, is a result too.

        A call that broke off has the outcome UNKNOWN. Raises Unavailable only when it has certainly not begun. Cancelling
        kills the call.
        """
        ...
