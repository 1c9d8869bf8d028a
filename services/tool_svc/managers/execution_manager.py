"""Calls of tools: arguments checked, run in the sandbox, ended as a result whatever the tool does."""

import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from chassis import audit, ids
from chassis.errors import invalid_field
from chassis.identity import Identity
from tool_svc.domain import json_schema
from tool_svc.domain.execution import (
    Cancelled,
    Failed,
    Limit,
    LimitExceeded,
    Outcome,
    OutputChunk,
    SandboxEvent,
    Succeeded,
)
from tool_svc.domain.tool import Tool, ToolKind
from tool_svc.interfaces.mcp import RemoteExecutor
from tool_svc.interfaces.repositories import CallReader
from tool_svc.managers.call_quota import CallQuota
from tool_svc.managers.ceilings import Ceilings
from tool_svc.managers.sandbox_executor import SandboxExecutor
from tool_svc.managers.tool_manager import require, require_named

_MAX_RESULT_DEPTH = 30


class ExecutionState(IntEnum):
    """How a call ended. Numbers as in hearth.tool.v1.ToolExecutionState."""

    SUCCEEDED = 1
    FAILED = 2
    TIMED_OUT = 3
    KILLED = 4


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What to run: a tool by id or name, at a version (0: the newest), with JSON arguments."""

    tool: uuid.UUID | str
    version: int
    arguments: Mapping[str, Any]
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class ExecutionResult:
    """How a call ended. `value` is JSON and untrusted; `text` is what a model sees of it."""

    state: ExecutionState
    tool_version: int
    duration_ms: int
    output_truncated: bool
    value: Any = None
    text: str = ""
    error: Failed | None = None


class ExecutionManager:
    """Business rules of calls. `ceilings` is the most that a call may use."""

    def __init__(
        self,
        reader: CallReader,
        quota: CallQuota,
        sandbox: SandboxExecutor,
        remote: RemoteExecutor,
        ceilings: Ceilings,
    ) -> None:
        self._reader = reader
        self._quota = quota
        self._sandbox = sandbox
        self._remote = remote
        self._ceilings = ceilings

    async def execute(self, caller: Identity, call: ToolCall) -> AsyncGenerator[OutputChunk | ExecutionResult]:
        """Output as it comes, then one result. Closing the generator ends the tool at once.

        Raises NotFound, InvalidArgument TOOL_ARGUMENTS_INVALID, FailedPrecondition SECRET_MISSING or PACKAGES_NOT_ALLOWED,
        ResourceExhausted (QUOTA_EXCEEDED, RATE_LIMITED), Unavailable; all before the tool runs. Every call of a tool that there is
        counts for the quota.
        """
        if "\0" in call.request_id:
            raise invalid_field("request_id", "must not hold NUL")
        tool = await self._load(caller, call)
        audit.concerning(ids.encode("tool", tool.id))
        await self._quota.take(caller)
        await json_schema.check_arguments_aside(tool.content.parameters, call.arguments)
        self._ceilings.check_packages(tool.organization_id, tool.content.settings)
        started, truncated = time.monotonic(), False
        async with contextlib.aclosing(self._events(tool, call)) as events:
            async for event in events:
                if isinstance(event, OutputChunk):
                    truncated = truncated or event.truncated
                    yield event
                else:
                    audit.concluded()
                    yield _result(tool, event, started, truncated)

    def _events(self, tool: Tool, call: ToolCall) -> AsyncGenerator[SandboxEvent]:
        limits = tool.content.settings.limits(self._ceilings.of(tool.organization_id))
        if tool.kind is ToolKind.MCP:
            return self._remote.execute(tool, call.arguments, limits)
        return self._sandbox.execute(tool, call.arguments, call.request_id, limits)

    async def _load(self, caller: Identity, call: ToolCall) -> Tool:
        tool = await self._reader.tool(caller.organization_id, call.tool, call.version)
        return require_named(tool, call.tool) if isinstance(call.tool, str) else require(tool, call.tool)


def _result(tool: Tool, outcome: Outcome, started: float, truncated: bool) -> ExecutionResult:
    duration_ms = round((time.monotonic() - started) * 1000)
    if isinstance(outcome, Succeeded):
        value = json.loads(outcome.result_json)
        if _depth_exceeds(value, _MAX_RESULT_DEPTH):
            message = f"The result is nested deeper than {_MAX_RESULT_DEPTH} levels."
            error = Failed("ResultTooDeep", message)
            return ExecutionResult(ExecutionState.FAILED, tool.version, duration_ms, truncated, error=error)
        text = value if isinstance(value, str) else outcome.result_json
        text = _cut(text, tool.content.settings.result_characters)
        return ExecutionResult(ExecutionState.SUCCEEDED, tool.version, duration_ms, truncated, value, text)
    state, error = _failure(outcome)
    return ExecutionResult(state, tool.version, duration_ms, truncated, error=error)


def _failure(outcome: Failed | LimitExceeded | Cancelled) -> tuple[ExecutionState, Failed]:
    match outcome:
        case Failed(error_type="SandboxProtocolError"):
            return ExecutionState.KILLED, outcome
        case Failed():
            return ExecutionState.FAILED, outcome
        case LimitExceeded(limit=Limit.WALL_TIME | Limit.CPU, message=message):
            return ExecutionState.TIMED_OUT, Failed("TimeLimitExceeded", message)
        case LimitExceeded(limit=limit, message=message):
            name = "".join(part.capitalize() for part in limit.value.split("_"))
            return ExecutionState.KILLED, Failed(f"{name}LimitExceeded", message)
        case Cancelled():
            message = "The call was ended because the server stops. Its effect is unknown."
            return ExecutionState.KILLED, Failed("Cancelled", message)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    note = f"\n[cut: {limit} of {len(text)} characters]"
    return text[: max(0, limit - len(note))] + note if limit > len(note) else text[:limit]


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for item in level
            if isinstance(item, list | dict)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True
