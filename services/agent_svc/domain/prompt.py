"""The layout of what the model is told. Golden-tested: a change here changes what every agent sees.

First one system message that stays byte for byte the same from turn to turn until memory is edited, so that providers' prompt
caches hit: instructions, then core memory. Then the history. What changes every turn (the time, recalled memories) stands
in front of the newest user message and is not stored with it. A summary of older messages is the first of the history.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.history import Window
from agent_svc.domain.model import AssistantMessage, ChatMessage, SystemMessage, ToolMessage, UserMessage
from agent_svc.domain.tokens import OVERHEAD_TOKENS, estimate_tokens

_MEMORY_HEADING = "\n\n# Memory\nWhat you have written down so far, always at hand:\n"
_NOTES = "[Notes for you, not written by the user. Time: {time}.{recalled}]\n\n"
_SUMMARY = "[Summary of the conversation up to here, written by you:]\n"
_RECALLED = "\nYou remember, from earlier:\n{hits}\n"


@dataclass(frozen=True, slots=True)
class CompiledMemory:
    """What memory_svc gives for a turn: core memory and the hits of passive recall, both rendered; empty if there is none."""

    core: str = ""
    recalled: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent to the model. `system_text` and `recalled_text` are kept with the step."""

    messages: tuple[ChatMessage, ...]
    system_text: str
    recalled_text: str
    estimated_tokens: int


def system_text(instructions: str, memory: CompiledMemory) -> str:
    """The stable beginning: instructions and core memory."""
    if not memory.core:
        return instructions
    return f"{instructions}{_MEMORY_HEADING}{memory.core}"


def notes(now: datetime, recalled: str) -> str:
    """What stands in front of the newest user message; `now` is in the agent's time zone."""
    time = now.strftime("%A, %Y-%m-%d %H:%M %Z")
    return _NOTES.format(time=time, recalled=_RECALLED.format(hits=recalled) if recalled else "")


def build(system: str, recalled: str, window: Window, now: datetime) -> Prompt:
    """Puts the parts together; the notes go to the newest user message of the window."""
    newest_user = max(
        (index for index, message in enumerate(window.messages) if message.role is MessageRole.USER), default=-1
    )
    note = notes(now, recalled)
    sent: list[ChatMessage] = [SystemMessage(system)]
    for index, message in enumerate(window.messages):
        sent.append(_as_sent(message, note if index == newest_user else ""))
    tokens = tokens_around(system, note) + window.tokens
    return Prompt(tuple(sent), system, recalled, tokens)


def tokens_around(system: str, note: str) -> int:
    """Estimated tokens of what stands around the history, the heading of a summary included."""
    return OVERHEAD_TOKENS + estimate_tokens(system) + estimate_tokens(note) + estimate_tokens(_SUMMARY)


def _as_sent(message: Message, note: str) -> ChatMessage:
    if message.role is MessageRole.ASSISTANT:
        return AssistantMessage(message.text, message.reasoning, message.tool_calls, message.reasoning_signature)
    if message.role is MessageRole.TOOL:
        return ToolMessage(message.tool_call_id, message.text, message.tool_outcome is not ToolCallOutcome.SUCCEEDED)
    if message.role is MessageRole.SUMMARY:
        return UserMessage(_SUMMARY + message.text)
    return UserMessage(note + message.text, message.images)
