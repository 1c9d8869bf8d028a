"""A run while it is worked on: what the loop knows and has done, in memory, beside what is persisted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agent_svc.domain.agent import Agent
from agent_svc.domain.approval import gate
from agent_svc.domain.conversation import Message, MessageRole
from agent_svc.domain.decision import CallFate, LedgerEntry
from agent_svc.domain.log import Turn
from agent_svc.domain.model import ToolCall
from agent_svc.domain.output_schema import parsed
from agent_svc.domain.prompt import CompiledMemory
from agent_svc.domain.run import TokenCount
from agent_svc.domain.tool import Tool
from agent_svc.domain.tool_rules import Ruling, in_order
from agent_svc.interfaces.model_provider import ChosenModel


@dataclass(frozen=True, slots=True)
class Correction:
    """An answer that was sent back to the model, what was wrong with it, and what it cost."""

    answer: str
    problem: str
    usage: TokenCount


@dataclass(slots=True)
class Progress:
    """State of one run. `history` is what the model may see: this run's messages and those of the runs before it.

    `model_name` is the name under which `model` was asked for, `fallbacks` those to try after it. `earlier` are the run's own
    messages that `history` does not reach back to, read only for tool rules; `ruling` is what those say now, None without any.
    """

    turn: Turn
    history: list[Message]
    agent: Agent
    model: ChosenModel
    tools: Sequence[Tool]
    tools_tokens: int
    message_id: UUID
    attempt: int
    steps: int
    usage: TokenCount
    ledger: dict[str, LedgerEntry] = field(default_factory=dict[str, LedgerEntry])
    begun: set[str] = field(default_factory=set[str])
    memory: CompiledMemory | None = None
    restart_due: bool = False
    window_share: float = 1.0
    model_name: str = ""
    fallbacks: list[str] = field(default_factory=list[str])
    correction: Correction | None = None
    earlier: tuple[Message, ...] = ()
    ruling: Ruling | None = None
    # The provider says that the context is too long: sum up what can be, whatever the estimate says.
    compaction_forced: bool = False
    # What the model is told the time is: the same in all steps, so that what it has read already stays as it was.
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def own(self) -> list[Message]:
        """The run's own messages, oldest first."""
        run = self.turn.run
        own: list[Message] = []
        for message in reversed(self.history):
            if message.seq < run.first_seq:
                break
            if message.run_id == run.id:
                own.append(message)
        own.reverse()
        return own

    @property
    def input_text(self) -> str:
        """What the run was started with."""
        return next((message.text for message in self.own if message.role is MessageRole.USER), "")

    @property
    def output_schema(self) -> Mapping[str, Any] | None:
        """What the final answer must match."""
        return parsed(self.output_schema_text) if self.output_schema_text else None

    @property
    def output_schema_text(self) -> str:
        """The same as it was given; empty: anything."""
        return next((message.output_schema for message in self.own if message.role is MessageRole.USER), "")

    @property
    def offered(self) -> Sequence[Tool]:
        """The tools that the next model call may use."""
        if self.ruling is None:
            return self.tools
        return [tool for tool in self.tools if tool.name in self.ruling.allowed]

    @property
    def calls_at_once(self) -> bool:
        """Whether the calls of one message are executed at the same time."""
        return self.agent.settings.parallel_tool_calls is not False and not in_order(self.agent.tool_rules)

    @property
    def tokens_left(self) -> bool:
        """Whether the run may call the model once more, by its limit of tokens."""
        return self.tokens_left_after(TokenCount())

    def tokens_left_after(self, more: TokenCount) -> bool:
        """The same, once a step that is not counted yet has used this."""
        most = self.agent.settings.max_run_tokens
        return most is None or self.usage.total + more.total < most

    def gate(self, message: Message, call: ToolCall) -> CallFate:
        """What happens to a call that was not begun: it may need an approval, and have got one or not.

        What tool rules refuse needs none: it is answered without being made.
        """
        if self.ruling is not None and call.id in self.ruling.refused:
            return CallFate.EXECUTE
        ruling = self.turn.rulings.get((message.id, call.id))
        return gate(self.agent.settings.approvals, self.tool_named(call.name), call, ruling)

    def refusal(self, message: Message, call: ToolCall) -> str:
        """Why a person refused a call; may be empty."""
        return self.turn.rulings[message.id, call.id].decision.reason

    def tool_named(self, name: str) -> Tool | None:
        """One of the agent's tools."""
        return next((tool for tool in self.tools if tool.name == name), None)
