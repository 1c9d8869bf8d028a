"""What is written to and read from the log of a conversation: one value per round trip to the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from agent_svc.domain.approval import ApprovalRequest, Ruling, RulingKey
from agent_svc.domain.conversation import Message, ToolCallOutcome
from agent_svc.domain.decision import LedgerEntry
from agent_svc.domain.event import EncodedEvent
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.run import Run, RunError, RunState, RunStep, RunStopReason, TokenCount

# A seq that no conversation reaches.
NEVER = 2**62


class Fenced(Exception):
    """The writer's lease is not the conversation's any more: nothing was written, and it must stop."""


class RequestIdTaken(Exception):
    """A run with this request id exists. `run` is as stored now, `body_hash` of the request that made it."""

    def __init__(self, run: Run, body_hash: bytes) -> None:
        super().__init__("request id taken")
        self.run = run
        self.body_hash = body_hash


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A conversation with something to do."""

    organization_id: UUID
    conversation_id: UUID


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write a conversation's runs, as long as no one has taken a higher epoch."""

    organization_id: UUID
    conversation_id: UUID
    epoch: int


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to start: with its user message, the two events, and the dispatch that is due in `due_in_s` seconds.

    It is refused where the conversation has `max_open` unfinished runs already. `limit` and `user_limit` are how many runs the
    organization and the user may have that have not ended, None: any number.
    """

    run_id: UUID
    organization_id: UUID
    conversation_id: UUID
    user: str
    message: Message
    queued: EncodedEvent
    completed: EncodedEvent
    preview: str
    create_time: datetime
    request_id: UUID | None
    body_hash: bytes
    max_open: int
    due_in_s: float
    limit: int | None = None
    user_limit: int | None = None


@dataclass(frozen=True, slots=True)
class TurnAsk:
    """Who takes a run (a worker's id, without spaces), with which run_started event, and how much history comes along.

    That is: messages after `after_seq`, the newest up to `history_tokens` estimated tokens.
    """

    owner: str
    now: datetime
    started: EncodedEvent
    history_tokens: int
    after_seq: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """A run to work on, and all that the loop needs to know to go on with it.

    `history` is what was asked for, by seq, messages of runs that wait behind this one included; `cut` says whether
    older messages were left out. `message_id` is that of the assistant message to be written next, `attempt` counts the
    tries to write it, `claims` how often a worker took the run since it began or last waited. `rulings` are what people decided about
    its calls.
    """

    lease: Lease
    run: Run
    user: str
    taken_over: bool
    message_id: UUID
    attempt: int
    claims: int
    agent_version: int
    history: tuple[Message, ...]
    cut: bool
    ledger: Mapping[str, LedgerEntry]
    started: EventFrame
    rulings: Mapping[RulingKey, Ruling] = field(default_factory=dict[RulingKey, Ruling])


@dataclass(frozen=True, slots=True)
class LedgerStart:
    """A tool call that is about to begin."""

    tool_call_id: str
    message_id: UUID
    name: str
    arguments_json: str
    repeatable: bool


@dataclass(frozen=True, slots=True)
class LedgerEnd:
    """A tool call that has ended."""

    tool_call_id: str
    outcome: ToolCallOutcome
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends."""

    state: RunState
    stop_reason: RunStopReason
    error: RunError | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, and the message it reports if it is a message_completed."""

    event: EncodedEvent
    message: Message | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """What one step of a run changes, all or nothing, if the lease still holds.

    With `waits` the run waits for somebody outside, and the lease is given back; `approval` is what is asked. `usage` is what was used beside a
    step.
    """

    lease: Lease
    run_id: UUID
    entries: tuple[Entry, ...]
    now: datetime
    step: RunStep | None = None
    usage: TokenCount | None = None
    next_message_id: UUID | None = None
    attempt: int | None = None
    ledger_starts: tuple[LedgerStart, ...] = ()
    ledger_ends: tuple[LedgerEnd, ...] = ()
    ending: Ending | None = None
    waits: bool = False
    approval: ApprovalRequest | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """Where the log is after a commit; `open_runs` counts the conversation's runs that have not ended.

    `waits`: the run waits, the lease is given back, and no other run of the conversation has its turn before it.
    """

    head_seq: int
    open_runs: int
    waits: bool = False


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where a conversation's log is, which worker holds it (empty: none), and the run that it works on."""

    head_seq: int
    owner: str
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CancelledRun:
    """What a cancel did: `owner` is the worker to tell (empty: none), `more` whether other runs wait."""

    run: Run
    event: EventFrame | None
    owner: str
    more: bool


@dataclass(frozen=True, slots=True)
class Unindexed:
    """Messages of a conversation that recall memory does not have yet, oldest first.

    With them it has all through `through_seq`; `more` says that there are others after that.
    """

    conversation_id: UUID
    agent_id: UUID
    through_seq: int
    more: bool = False
    messages: tuple[Message, ...] = field(default=())


def run_usage(run: Run, step: RunStep | None) -> TokenCount:
    """What a run has used, a step about to be written included."""
    return run.usage if step is None else run.usage.plus(step.usage)
