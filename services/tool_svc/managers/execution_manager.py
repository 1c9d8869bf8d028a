"""Calls of tools: arguments checked, run in the sandbox, ended as a result whatever the tool does."""

import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from chassis import audit, ids
from chassis.errors import FailedPrecondition, ResourceExhausted, Unavailable, invalid_field
from chassis.identity import Identity
from tool_svc.domain import json_schema
from tool_svc.domain.execution import (
    Cancelled,
    ExecutionLimits,
    Failed,
    Limit,
    LimitExceeded,
    Outcome,
    OutputChunk,
    SandboxCall,
    SandboxEvent,
    Succeeded,
)
from tool_svc.domain.masking import Mask, MaskedOutput
from tool_svc.domain.tool import Tool
from tool_svc.interfaces.packages import PackagesNotAllowed, PackageStore, PackagesUnavailable
from tool_svc.interfaces.repositories import CallReader
from tool_svc.interfaces.sandbox import Sandbox, SandboxBusy, SandboxUnavailable
from tool_svc.interfaces.vault import SecretReader
from tool_svc.managers.call_quota import CallQuota
from tool_svc.managers.tool_manager import packages_not_allowed, require, require_named
from tool_svc.managers.turns import Turns

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
    """Business rules of calls. `ceiling` is what the operator allows any tool, `turns` an organization's share."""

    def __init__(
        self,
        reader: CallReader,
        quota: CallQuota,
        secrets: SecretReader,
        packages: PackageStore,
        sandbox: Sandbox,
        turns: Turns,
        ceiling: ExecutionLimits,
    ) -> None:
        self._reader = reader
        self._quota = quota
        self._secrets = secrets
        self._packages = packages
        self._sandbox = sandbox
        self._turns = turns
        self._ceiling = ceiling

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
        secrets = await self._read(caller, tool.content.settings.secrets)
        started = time.monotonic()
        try:
            async with (
                self._turns.turn(caller.organization_id),
                self._packages.environment(tool.content.settings.requirements) as packages,
            ):
                sandbox_call = self._sandbox_call(tool, call, secrets, packages)
                async with contextlib.aclosing(self._events(sandbox_call, Mask(secrets))) as events:
                    truncated = False
                    async for event in events:
                        if isinstance(event, OutputChunk):
                            truncated = truncated or event.truncated
                            yield event
                        else:
                            yield _result(tool, event, started, truncated)
        except PackagesNotAllowed:
            raise packages_not_allowed() from None
        except PackagesUnavailable as error:
            yield _result(tool, Failed("PackagesUnavailable", str(error)), started, False)
        except SandboxBusy as busy:
            message = "as many tools run as this server allows"
            raise ResourceExhausted(message, reason="RATE_LIMITED", retry_after_s=busy.retry_after_s) from None
        except SandboxUnavailable as error:
            raise Unavailable("the sandbox does not answer", reason="DEPENDENCY_UNAVAILABLE") from error

    async def _events(self, call: SandboxCall, mask: Mask) -> AsyncGenerator[SandboxEvent]:
        """What the sandbox says, with secrets masked."""
        output = MaskedOutput(mask)
        async with contextlib.aclosing(self._sandbox.execute(call)) as events:
            async for event in events:
                if isinstance(event, OutputChunk):
                    for chunk in output.take(event):
                        yield chunk
                else:
                    for chunk in output.rest():
                        yield chunk
                    yield mask.outcome(event)

    def _sandbox_call(
        self, tool: Tool, call: ToolCall, secrets: Mapping[str, str], packages: Path | None
    ) -> SandboxCall:
        request_id = {"HEARTH_REQUEST_ID": call.request_id} if call.request_id else {}
        return SandboxCall(
            call_id=str(ids.new()),
            source=tool.content.source_code,
            entry_point=tool.content.entry_point,
            arguments=call.arguments,
            limits=tool.content.settings.limits(self._ceiling),
            environment={**secrets, **request_id},
            allowed_hosts=tool.content.settings.allowed_hosts,
            packages=packages,
        )

    async def _read(self, caller: Identity, names: Sequence[str]) -> Mapping[str, str]:
        """The values of secrets by name. Raises FailedPrecondition SECRET_MISSING."""
        found = await self._secrets.read(caller.organization_id, names) if names else {}
        for name in names:
            if name not in found:
                message = f"the secret {name} is not set, or was set under a key that this server does not have"
                raise FailedPrecondition(message, reason="SECRET_MISSING", metadata={"name": name})
        return found

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
