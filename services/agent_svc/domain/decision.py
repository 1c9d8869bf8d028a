"""What the agent loop does next: a pure function of the persisted messages of a run, so that any worker can go on."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.model import ToolCall
from agent_svc.domain.run import RunStopReason
from agent_svc.domain.tool_rules import Ruling


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A tool call that was begun. `outcome` is NONE while it has not ended; `repeatable` if its tool is marked idempotent."""

    tool_call_id: str
    outcome: ToolCallOutcome
    repeatable: bool


class CallFate(enum.Enum):
    """What happens to a tool call without a result."""

    EXECUTE = "execute"
    REPORT_UNKNOWN = "report unknown"
    ASK = "ask for approval"
    REFUSE = "refused by a person"


@dataclass(frozen=True, slots=True)
class PendingCall:
    """A call of an assistant message that has no result yet."""

    call: ToolCall
    fate: CallFate


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model; `step` counts from 1."""

    step: int


@dataclass(frozen=True, slots=True)
class ExecuteTools:
    """Work off the calls of the newest assistant message."""

    message: Message
    calls: tuple[PendingCall, ...]


@dataclass(frozen=True, slots=True)
class AskApproval:
    """Wait until a person has decided about calls of the newest assistant message; all its others have results."""

    message: Message
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The run is over."""

    stop_reason: RunStopReason


Action = CallModel | ExecuteTools | AskApproval | Finish
# What happens to a call of a message that was not begun.
Gate = Callable[[Message, ToolCall], CallFate]


def unguarded(message: Message, call: ToolCall) -> CallFate:
    """A gate that is open."""
    return CallFate.EXECUTE


def decide(
    messages: Sequence[Message],
    ledger: Mapping[str, LedgerEntry],
    *,
    steps: int,
    max_steps: int,
    tokens_left: bool = True,
    ruling: Ruling | None = None,
    gate: Gate = unguarded,
    in_order: bool = False,
) -> Action:
    """The next action of a run.

    `messages` are the run's own, oldest first (at least from its newest assistant message on), `ledger` its tool calls by id,
    `steps` the model calls that it has completed. A call that was begun by a worker that died is executed again only if
    its tool may be repeated; otherwise the model is told that its outcome is unknown. What was not begun is asked of `gate`; calls that
    must be approved wait until the others have results. `in_order`: one call after the other, approvals too. `tokens_left` says
    whether the run may use more tokens, `ruling` what tool rules say, None without any. A run that cannot keep them stops with ERROR.
    """
    last = _newest_assistant(messages)
    going_on = _call_or_stop(steps, max_steps, tokens_left=tokens_left, ruling=ruling)
    if last is None:
        return going_on
    if not last.tool_calls:
        return going_on if ruling is not None and ruling.owed else Finish(RunStopReason.FINAL_ANSWER)
    answered = {
        message.tool_call_id for message in messages if message.role is MessageRole.TOOL and message.seq > last.seq
    }
    pending = tuple(
        PendingCall(call, _fate(ledger.get(call.id), last, call, gate))
        for call in last.tool_calls
        if call.id not in answered
    )
    if in_order:
        pending = pending[:1]
    ready = tuple(one for one in pending if one.fate is not CallFate.ASK)
    if ready:
        return ExecuteTools(last, ready)
    if pending:
        return AskApproval(last, tuple(one.call for one in pending))
    return going_on


def _newest_assistant(messages: Sequence[Message]) -> Message | None:
    for message in reversed(messages):
        if message.role is MessageRole.ASSISTANT:
            return message
    return None


def _call_or_stop(steps: int, max_steps: int, *, tokens_left: bool, ruling: Ruling | None) -> Action:
    if ruling is not None and ruling.must_end:
        return Finish(RunStopReason.TERMINAL_TOOL)
    if ruling is not None and ruling.stuck:
        return Finish(RunStopReason.ERROR)
    if steps >= max_steps:
        return Finish(RunStopReason.STEP_LIMIT)
    return CallModel(steps + 1) if tokens_left else Finish(RunStopReason.TOKEN_LIMIT)


def _fate(entry: LedgerEntry | None, message: Message, call: ToolCall, gate: Gate) -> CallFate:
    if entry is None:
        return gate(message, call)
    return CallFate.EXECUTE if entry.repeatable else CallFate.REPORT_UNKNOWN
