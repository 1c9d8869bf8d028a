"""The durable events of a conversation: what happened, as values. Their bytes are made by an EventCodec."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from uuid import UUID

from agent_svc.domain.approval import ApprovalRequest, Decision
from agent_svc.domain.conversation import Message, ToolCallOutcome
from agent_svc.domain.model import ToolCall
from agent_svc.domain.run import RunError, RunStopReason, TokenCount


class EventType(enum.IntEnum):
    """Kind of an event. Numbers are the field numbers of hearth.agent.v1.RunEvent's payload, and as stored."""

    RUN_QUEUED = 10
    RUN_STARTED = 11
    MESSAGE_COMPLETED = 12
    STEP_RESTARTED = 13
    TOOL_CALL_STARTED = 14
    TOOL_CALL_COMPLETED = 15
    APPROVAL_REQUESTED = 16
    APPROVAL_RESOLVED = 17
    MEMORY_UPDATED = 18
    CONTEXT_COMPACTED = 19
    RUN_SUCCEEDED = 20
    RUN_FAILED = 21
    RUN_CANCELLED = 22

    @property
    def terminal(self) -> bool:
        """Whether it is the last event of its run."""
        return self >= EventType.RUN_SUCCEEDED


@dataclass(frozen=True, slots=True)
class RunQueued:
    """The run was accepted."""

    type = EventType.RUN_QUEUED


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A worker took the run; its epoch is that of the event's row."""

    type = EventType.RUN_STARTED


@dataclass(frozen=True, slots=True)
class MessageCompleted:
    """A message is complete."""

    type = EventType.MESSAGE_COMPLETED
    message: Message


@dataclass(frozen=True, slots=True)
class StepRestarted:
    """The message in progress starts again as `attempt`."""

    type = EventType.STEP_RESTARTED
    message_id: UUID
    attempt: int
    cause: str


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    """A tool call has begun; `tool_version` is 0 for built-in tools."""

    type = EventType.TOOL_CALL_STARTED
    message_id: UUID
    call: ToolCall
    tool_version: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallCompleted:
    """A tool call has ended."""

    type = EventType.TOOL_CALL_COMPLETED
    tool_call_id: str
    name: str
    outcome: ToolCallOutcome
    duration_ms: int


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    """The run waits for a person's decision."""

    type = EventType.APPROVAL_REQUESTED
    request: ApprovalRequest


@dataclass(frozen=True, slots=True)
class ApprovalResolved:
    """The decision was made; the run goes on."""

    type = EventType.APPROVAL_RESOLVED
    approval_id: UUID
    decision: Decision


@dataclass(frozen=True, slots=True)
class MemoryUpdated:
    """The agent changed its memory; `resource_ids` are wire ids of blocks or passages."""

    type = EventType.MEMORY_UPDATED
    resource_ids: tuple[str, ...]
    tool_call_id: str
    block_label: str = ""


@dataclass(frozen=True, slots=True)
class ContextCompacted:
    """Older messages became a summary. Tokens are estimates of the conversation as the model reads it, before and after."""

    type = EventType.CONTEXT_COMPACTED
    summary_message_id: UUID
    from_seq: int
    through_seq: int
    tokens_before: int
    tokens_after: int
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class RunSucceeded:
    """The run ended with an answer."""

    type = EventType.RUN_SUCCEEDED
    stop_reason: RunStopReason
    usage: TokenCount


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run ended by an error or a limit."""

    type = EventType.RUN_FAILED
    stop_reason: RunStopReason
    error: RunError
    usage: TokenCount


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """The run was cancelled."""

    type = EventType.RUN_CANCELLED
    usage: TokenCount


EventPayload = (
    RunQueued
    | RunStarted
    | MessageCompleted
    | StepRestarted
    | ToolCallStarted
    | ToolCallCompleted
    | ApprovalRequested
    | ApprovalResolved
    | MemoryUpdated
    | ContextCompacted
    | RunSucceeded
    | RunFailed
    | RunCancelled
)


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """An event ready to be stored: everything but the seq, which the database hands out."""

    type: EventType
    body: bytes
