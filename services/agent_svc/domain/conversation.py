"""Conversations and their messages: what the model may see, in the order it was said."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from agent_svc.domain.image import IMAGE_TOKENS, Image
from agent_svc.domain.model import ToolCall
from agent_svc.domain.tokens import OVERHEAD_TOKENS, estimate_tokens


@dataclass(frozen=True, slots=True)
class Conversation:
    """One gapless log of an agent. `version` counts changes of display_name and is its etag."""

    id: UUID
    organization_id: UUID
    agent_id: UUID
    display_name: str
    head_seq: int
    create_time: datetime
    update_time: datetime
    version: int = 1


class MessageRole(enum.IntEnum):
    """Who speaks. Numbers as in hearth.agent.v1.MessageRole, and as stored."""

    USER = 1
    ASSISTANT = 2
    TOOL = 3
    SUMMARY = 4


class ToolCallOutcome(enum.IntEnum):
    """How a tool call went; UNKNOWN: interrupted, its effect may have happened. Numbers as on the wire and as stored."""

    NONE = 0
    SUCCEEDED = 1
    FAILED = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class Summarized:
    """What a summary stands for: all that comes, in the model's order, before the message (kept_run_seq, kept_seq), except the
    user message with which that one's run began. `from_seq` and `through_seq` are the least and the greatest seq among it.
    """

    from_seq: int
    through_seq: int
    kept_run_seq: int
    kept_seq: int

    def covers(self, message: Message) -> bool:
        """Whether the summary stands for the message."""
        if message.run_seq != self.kept_run_seq:
            return message.run_seq < self.kept_run_seq
        return message.seq < self.kept_seq and message.role is not MessageRole.USER


@dataclass(frozen=True, slots=True)
class Message:
    """An entry of a conversation.

    `seq` is that of its message_completed event (0 until it is stored); `run_seq` is the seq of the first event of its run:
    the conversation as the model reads it is ordered by (run_seq, seq), so that a message that waited its turn comes after
    the answer to the one before it.
    """

    id: UUID
    run_id: UUID
    run_seq: int
    role: MessageRole
    text: str
    create_time: datetime
    seq: int = 0
    reasoning: str = ""
    reasoning_signature: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""
    tool_outcome: ToolCallOutcome = ToolCallOutcome.NONE
    images: tuple[Image, ...] = ()
    # Of a user message: the JSON Schema that the run's answer must match; empty: free text.
    output_schema: str = ""
    # Of a summary.
    summarized: Summarized | None = None
    # Estimated tokens as sent, counted once: every later turn asks for them.
    tokens: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        tokens = OVERHEAD_TOKENS + estimate_tokens(self.text) + IMAGE_TOKENS * len(self.images)
        if self.reasoning_signature and self.tool_calls:
            tokens += estimate_tokens(self.reasoning)  # Goes back to the provider in turns that call tools.
        for call in self.tool_calls:
            tokens += OVERHEAD_TOKENS + estimate_tokens(call.name) + estimate_tokens(call.arguments_json)
        object.__setattr__(self, "tokens", tokens)


def storable_text(text: str) -> str:
    """Text that PostgreSQL and protobuf can both hold: NUL and lone surrogates become U+FFFD."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
