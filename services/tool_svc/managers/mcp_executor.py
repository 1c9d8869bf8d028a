"""Calls of tools of MCP servers, as the same events that the sandbox gives for calls of source."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chassis.errors import ResourceExhausted
from chassis.tasks import end_task
from tool_svc.domain.execution import (
    ExecutionLimits,
    Failed,
    Limit,
    LimitExceeded,
    Outcome,
    OutputChunk,
    OutputStream,
    SandboxEvent,
    Succeeded,
)
from tool_svc.domain.masking import Mask, MaskedOutput
from tool_svc.domain.mcp_server import McpServer
from tool_svc.domain.tool import Tool
from tool_svc.interfaces.mcp import McpBusy, McpClient, McpFailed, McpTimedOut, RemoteResult
from tool_svc.interfaces.unit_of_work import UnitOfWork
from tool_svc.interfaces.vault import SecretReader
from tool_svc.managers.mcp_server_manager import require_server, secrets_of

_MAX_ERROR_TEXT = 4_000


@dataclass
class _Progress:
    """Lines of progress on their way to who watches the call, at most `left` bytes of them."""

    left: int
    lines: asyncio.Queue[OutputChunk | None] = field(default_factory=asyncio.Queue[OutputChunk | None])

    async def tell(self, line: str) -> None:
        if self.left <= 0:
            return
        text = line + "\n"
        self.left -= len(text.encode("utf-8", "replace"))
        self.lines.put_nowait(OutputChunk(OutputStream.STDERR, text))
        if self.left <= 0:
            self.lines.put_nowait(OutputChunk(OutputStream.STDERR, "[further output is cut]\n", truncated=True))


class McpExecutor:
    """Runs tools of kind MCP."""

    def __init__(self, unit_of_work: UnitOfWork, client: McpClient, secrets: SecretReader) -> None:
        self._work = unit_of_work
        self._client = client
        self._secrets = secrets

    async def execute(
        self, tool: Tool, arguments: Mapping[str, Any], limits: ExecutionLimits
    ) -> AsyncGenerator[SandboxEvent]:
        """Progress as it comes, then one outcome. Closing the generator ends the call at once.

        Raises NotFound when the server is gone, ResourceExhausted RATE_LIMITED.
        """
        server = await self._server_of(tool)
        try:
            secrets = await secrets_of(server, self._secrets)
        except McpFailed as failure:
            yield _failed(failure)
            return
        mask = Mask(secrets)
        output = MaskedOutput(mask)
        progress = _Progress(limits.output_bytes)
        call = asyncio.create_task(self._call(server, secrets, tool, arguments, limits, progress))
        call.add_done_callback(lambda _: progress.lines.put_nowait(None))
        try:
            while (chunk := await progress.lines.get()) is not None:
                for shown in output.take(chunk):
                    yield shown
            outcome = await call
            for shown in output.rest():
                yield shown
            yield mask.outcome(outcome)
        finally:
            await end_task(call)
            if not call.cancelled():
                call.exception()  # Seen: it has been raised above, or nobody waits for it any more.

    async def _server_of(self, tool: Tool) -> McpServer:
        assert tool.mcp_server_id is not None
        async with self._work.of(tool.organization_id) as work:
            return require_server(await work.mcp_servers.get(tool.mcp_server_id), tool.mcp_server_id)

    async def _call(
        self,
        server: McpServer,
        secrets: Mapping[str, str],
        tool: Tool,
        arguments: Mapping[str, Any],
        limits: ExecutionLimits,
        progress: _Progress,
    ) -> Outcome:
        own_timeout = tool.content.settings.timeout_ms is not None
        timeout_s = limits.wall_time_s if own_timeout else min(server.connection.timeout_s, limits.wall_time_s)
        name = tool.content.entry_point
        try:
            result = await self._client.call(server, secrets, name, arguments, timeout_s, progress.tell)
        except McpTimedOut:
            return LimitExceeded(Limit.WALL_TIME, f"The MCP server did not answer within {timeout_s:g} s.")
        except McpFailed as failure:
            return _failed(failure)
        except McpBusy as busy:
            raise ResourceExhausted(str(busy), reason="RATE_LIMITED", retry_after_s=busy.retry_after_s) from None
        return _outcome(result, limits.result_bytes)


def _failed(failure: McpFailed) -> Failed:
    kind = "McpConnectionLost" if failure.begun else "McpServerFailed"
    return Failed(kind, f"The MCP server failed: {failure.message}")


def _outcome(result: RemoteResult, most: int) -> Outcome:
    if result.is_error:
        return Failed("McpToolError", result.error_text[:_MAX_ERROR_TEXT] or "The tool says that it failed.")
    try:
        text = json.dumps(result.value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        return Failed("McpResultInvalid", "The result cannot be written as JSON.")
    size = len(text.encode("utf-8", "replace"))
    if size > most:
        return LimitExceeded(Limit.RESULT_SIZE, f"The result has {size} bytes as JSON; at most {most} are allowed.")
    return Succeeded(text)
