"""Works off the tool calls of an assistant message: a ledger row before, the outcome with the result message after."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from agent_svc.domain.approval import rejection
from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome, storable_text
from agent_svc.domain.decision import CallFate, PendingCall
from agent_svc.domain.event import EventPayload, MemoryUpdated, MessageCompleted, ToolCallCompleted, ToolCallStarted
from agent_svc.domain.log import LedgerEnd, LedgerStart
from agent_svc.domain.model import ToolCall
from agent_svc.domain.tool import UNKNOWN_OUTCOME, Tool, ToolResult, failed
from agent_svc.interfaces.tools import ToolExecutor
from agent_svc.managers.memory_tools import MemoryToolRunner
from agent_svc.managers.patience import Patience
from agent_svc.managers.progress import Progress
from agent_svc.managers.run_writer import RunWriter
from chassis import ids
from chassis.callcontext import Call, set_call
from chassis.errors import DomainError, Unavailable
from chassis.failpoints import failpoint
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

# The longest that a tool may be set to run, and some more for the way there and back.
TOOL_TIMEOUT_S = 660.0
_CALL_ID = re.compile(r"[\x21-\x7e]{1,96}")


class ToolRunner:
    """Executes calls, those that it is given together at the same time."""

    def __init__(
        self, writer: RunWriter, executor: ToolExecutor, memory_tools: MemoryToolRunner, patience: Patience
    ) -> None:
        self._writer = writer
        self._patience = patience
        self._executor = executor
        self._memory_tools = memory_tools

    def starts(self, progress: Progress, message: Message) -> tuple[list[EventPayload], tuple[LedgerStart, ...]]:
        """The events and ledger rows with which a message's calls begin, to be written together with it.

        Those that must be approved begin later, as do those that come after another.
        """
        first = message.tool_calls if progress.calls_at_once else message.tool_calls[:1]
        return _begin(progress, message, [call for call in first if progress.gate(message, call) is CallFate.EXECUTE])

    async def run(self, progress: Progress, message: Message, calls: Sequence[PendingCall]) -> None:
        """Executes the calls and writes their results. Raises Fenced; then what still runs is cancelled."""
        unbegun = [
            pending.call
            for pending in calls
            if pending.fate is CallFate.EXECUTE and pending.call.id not in progress.begun
        ]
        if unbegun:
            events, starts = _begin(progress, message, unbegun)
            if starts:
                await self._writer.write(progress.turn, progress.history, events, ledger_starts=starts)
        refused = [pending.call for pending in calls if pending.fate is CallFate.REFUSE]
        if refused:
            await self._write_refusals(progress, message, refused)
        tasks = [
            asyncio.create_task(self._one(progress, message, pending))
            for pending in calls
            if pending.fate is not CallFate.REFUSE
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            await asyncio.gather(*map(end_task, tasks))

    async def _one(self, progress: Progress, message: Message, pending: PendingCall) -> None:
        begun = time.monotonic()
        # Of this task alone: what the call leaves in other services' audit logs names the run.
        set_call(Call("", _request_id(progress, pending.call), ""))
        forbidden = progress.ruling.refused.get(pending.call.id) if progress.ruling is not None else None
        if forbidden:
            result = failed(f"The tool was not run: {forbidden}")
        elif pending.fate is CallFate.REPORT_UNKNOWN:
            result = UNKNOWN_OUTCOME
        else:
            await failpoint("tool.begun")
            result = await self._execute(progress, pending.call)
            await failpoint("tool.ended")
        await self._write_result(progress, message, pending.call, result, int((time.monotonic() - begun) * 1000))

    async def _execute(self, progress: Progress, call: ToolCall) -> ToolResult:
        tool = progress.tool_named(call.name)
        problem = _problem(tool, call, progress)
        if problem is not None or tool is None:
            return failed(problem or "")
        try:
            if tool.id is None:
                return await self._memory_tools.run(progress.agent.id, progress.turn.run.id, call)
            return await self._execute_in_sandbox(progress, tool, call)
        except DomainError as error:
            return failed(f"The tool could not be run: {error.message}.")

    async def _execute_in_sandbox(self, progress: Progress, tool: Tool, call: ToolCall) -> ToolResult:
        """Tries again what has certainly not begun, and, for tools that may be repeated, what broke off."""
        request_id = f"{ids.encode('run', progress.turn.run.id)}/{call.id}"[:128]

        async def execute() -> ToolResult:
            result = await self._executor.execute(tool, call.arguments_json, request_id)
            if result.outcome is ToolCallOutcome.UNKNOWN and tool.idempotent:
                raise Unavailable("the tool's execution broke off", reason="DEPENDENCY_UNAVAILABLE")
            return result

        return await self._patience.with_retries(execute, timeout_s=TOOL_TIMEOUT_S)

    async def _write_result(
        self, progress: Progress, message: Message, call: ToolCall, result: ToolResult, duration_ms: int
    ) -> None:
        events: list[EventPayload] = [
            ToolCallCompleted(call.id, call.name, result.outcome, duration_ms),
            MessageCompleted(_answer(message, call, result)),
        ]
        if result.memory_ids:
            events.append(MemoryUpdated(result.memory_ids, call.id, result.block_label))
        ends = (LedgerEnd(call.id, result.outcome, duration_ms),)
        await self._writer.write(progress.turn, progress.history, events, ledger_ends=ends)

    async def _write_refusals(self, progress: Progress, message: Message, calls: Sequence[ToolCall]) -> None:
        """Results of calls that a person refused. They never begin: the ledger does not know them."""
        events = [
            MessageCompleted(_answer(message, call, failed(rejection(progress.refusal(message, call)))))
            for call in calls
        ]
        await self._writer.write(progress.turn, progress.history, events)


def _answer(message: Message, call: ToolCall, result: ToolResult) -> Message:
    """What the model is told of a call."""
    return Message(
        id=ids.new(),
        run_id=message.run_id,
        run_seq=message.run_seq,
        role=MessageRole.TOOL,
        text=storable_text(result.text),
        create_time=datetime.now(UTC),
        tool_call_id=call.id,
        tool_name=call.name,
        tool_outcome=result.outcome,
    )


def _request_id(progress: Progress, call: ToolCall) -> str:
    """The run's id, and the call's if that can be sent as metadata: models make them up."""
    run_id = ids.encode("run", progress.turn.run.id)
    return f"{run_id}/{call.id}" if _CALL_ID.fullmatch(call.id) else run_id


def _begin(
    progress: Progress, message: Message, calls: Sequence[ToolCall]
) -> tuple[list[EventPayload], tuple[LedgerStart, ...]]:
    """Calls that cannot be executed (no such tool, malformed arguments) begin too: their error is their result."""
    events: list[EventPayload] = []
    starts: list[LedgerStart] = []
    for call in calls:
        tool = progress.tool_named(call.name)
        events.append(ToolCallStarted(message.id, call, tool.version if tool else 0))
        repeatable = tool is None or tool.idempotent
        starts.append(LedgerStart(call.id, message.id, call.name, call.arguments_json, repeatable))
        progress.begun.add(call.id)
    return events, tuple(starts)


def _problem(tool: Tool | None, call: ToolCall, progress: Progress) -> str | None:
    """Why a call cannot be executed, told so that the model can do better."""
    if tool is None:
        names = ", ".join(sorted(tool.name for tool in progress.tools)) or "none"
        return f"There is no tool named {call.name!r}. The tools are: {names}."
    try:
        arguments = msgspec.json.decode(call.arguments_json)
    except msgspec.DecodeError as error:
        return f"The arguments are not valid JSON ({error}). Write one JSON object that fits the tool's schema."
    except RecursionError:
        return "The arguments are nested too deeply. Write one flatter JSON object that fits the tool's schema."
    if not isinstance(arguments, dict):
        return "The arguments must be one JSON object that fits the tool's schema."
    return None
