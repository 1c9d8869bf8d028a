"""Runs: one input worked off by an agent, their states, and why they stopped."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

# Limits of an organization, by name: how many runs may be open in all, and of one user.
CONCURRENT_RUNS = "concurrent_runs"
USER_CONCURRENT_RUNS = "user_concurrent_runs"
PREVIEW_CHARACTERS = 200
# Runs of one conversation that have not ended; more are refused, instead of waiting longer and longer.
MAX_OPEN_RUNS = 100


class RunState(enum.IntEnum):
    """Where a run is. Numbers as in hearth.agent.v1.RunState, and as stored."""

    QUEUED = 1
    RUNNING = 2
    WAITING = 3
    SUCCEEDED = 4
    FAILED = 5
    CANCELLED = 6

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self >= RunState.SUCCEEDED


class RunStopReason(enum.IntEnum):
    """Why a run stopped. Numbers as in hearth.agent.v1.RunStopReason, and as stored."""

    NONE = 0
    FINAL_ANSWER = 1
    OUTPUT_LIMIT = 2
    STEP_LIMIT = 3
    TIME_LIMIT = 4
    CANCELLED = 5
    ERROR = 6
    CONTENT_FILTER = 7
    TOKEN_LIMIT = 8
    TERMINAL_TOOL = 9


class BusyPolicy(enum.IntEnum):
    """What happens with a message to a conversation that has an unfinished run."""

    QUEUE = 1
    REFUSE = 2
    INTERRUPT = 3


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens that model calls used; `input_tokens` includes the cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0

    def plus(self, other: TokenCount) -> TokenCount:
        """The sum."""
        return TokenCount(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
        )

    @property
    def total(self) -> int:
        """Tokens read and written."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class RunError:
    """Why a run failed. `reason` names a hearth.type.v1.ErrorReason without its prefix; `message` is for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run as stored. `first_seq` is the seq of its run_queued event and orders the runs of a conversation."""

    id: UUID
    organization_id: UUID
    agent_id: UUID
    conversation_id: UUID
    state: RunState
    first_seq: int
    input_preview: str
    create_time: datetime
    stop_reason: RunStopReason = RunStopReason.NONE
    error: RunError | None = None
    usage: TokenCount = TokenCount()
    steps: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class ContextTokens:
    """Estimated tokens of what was sent, by section. `window` is what the run could use, `answer` what of it was kept free."""

    instructions: int = 0
    core_memory: int = 0
    recalled: int = 0
    tools: int = 0
    summary: int = 0
    history: int = 0
    input: int = 0
    window: int = 0
    answer: int = 0

    @property
    def sent(self) -> int:
        """All sections together."""
        conversation = self.summary + self.history + self.input
        return self.instructions + self.core_memory + self.recalled + self.tools + conversation


@dataclass(frozen=True, slots=True)
class RunStep:
    """What the model saw and used in one step, kept so that people can look at it.

    The messages sent are those of the conversation from (from_run_seq, from_seq) through through_seq in the model's order,
    and the one at pinned_seq (0: none) before them.
    """

    step: int
    message_id: UUID
    model: str
    system_text: str
    recalled_text: str
    from_run_seq: int
    from_seq: int
    through_seq: int
    pinned_seq: int
    tool_names: tuple[str, ...]
    estimated_tokens: int
    usage: TokenCount
    # None for steps made before they were counted.
    tokens: ContextTokens | None = None


@dataclass(frozen=True, slots=True)
class ContextMessage:
    """A message as it was sent to the model."""

    message_id: UUID
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class RunContext:
    """A step and the messages sent with it."""

    step: RunStep
    messages: tuple[ContextMessage, ...]
