"""The conversation as the model reads it: in its order, with call/result pairs whole, and short enough for the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome

BYTES_PER_TOKEN = 3.2
MESSAGE_OVERHEAD_TOKENS = 6
# Of the budget, the share that a single text may take before its middle is cut out.
_LARGEST_TEXT_SHARE = 0.5
_NO_RESULT = "No result: the run ended before this call finished."
_CUT_NOTE = "\n[… {count} characters left out: too long for the context window …]\n"


def estimate_tokens(text: str) -> int:
    """Tokens of a text, rather too many than too few for common tokenizers."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return int(size / BYTES_PER_TOKEN) + 1


def message_tokens(message: Message) -> int:
    """Estimated tokens of a message as sent."""
    total = MESSAGE_OVERHEAD_TOKENS + estimate_tokens(message.text)
    for call in message.tool_calls:
        total += MESSAGE_OVERHEAD_TOKENS + estimate_tokens(call.name) + estimate_tokens(call.arguments_json)
    return total


@dataclass(frozen=True, slots=True)
class Window:
    """What of the history is sent. `pinned` is True when the first message stands before a gap."""

    messages: tuple[Message, ...]
    tokens: int
    pinned: bool = False


def in_model_order(messages: Sequence[Message]) -> list[Message]:
    """Sorted by run, then by seq; results stand right behind their calls, in the order of the calls.

    A call without a result gets one that says so, unless it belongs to the newest assistant message of the newest run, which
    may still be at work. Results without their call (its message was left out) are dropped.
    """
    ordered = sorted(messages, key=lambda message: (message.run_seq, message.seq))
    results = {(m.run_id, m.tool_call_id): m for m in ordered if m.role is MessageRole.TOOL}
    placed: list[Message] = []
    for message in ordered:
        if message.role is MessageRole.TOOL:
            continue
        placed.append(message)
        for call in message.tool_calls:
            result = results.get((message.run_id, call.id))
            placed.append(result if result is not None else _missing_result(message, call.id, call.name))
    return placed


def fit(messages: Sequence[Message], budget: int) -> Window:
    """The newest part of a history in the model's order that fits `budget` tokens.

    Cut only between units (a message, or an assistant message with its results), beginning with a user message where
    possible. What the current run began with is always kept; texts too large for the window lose their middle.
    """
    cap = max(64, int(budget * _LARGEST_TEXT_SHARE))
    units = _units([_shortened(message, cap) for message in messages])
    costs = [sum(message_tokens(message) for message in unit) for unit in units]
    start = len(units)
    used = 0
    while start > 0 and (used + costs[start - 1] <= budget or start == len(units)):
        start -= 1
        used += costs[start]
    while start < len(units) - 1 and units[start][0].role not in (MessageRole.USER, MessageRole.SUMMARY):
        if _same_run(units, start):
            break
        used -= costs[start]
        start += 1
    kept = [message for unit in units[start:] for message in unit]
    opening = _opening(units, start)
    if opening is None:
        return Window(tuple(kept), used)
    return Window((opening, *kept), used + message_tokens(opening), pinned=True)


def _units(messages: Sequence[Message]) -> list[list[Message]]:
    units: list[list[Message]] = []
    for message in messages:
        if message.role is MessageRole.TOOL and units:
            units[-1].append(message)
        elif message.role is not MessageRole.TOOL:
            units.append([message])
    return units


def _same_run(units: list[list[Message]], start: int) -> bool:
    return units[start][0].run_id == units[-1][0].run_id


def _opening(units: list[list[Message]], start: int) -> Message | None:
    """The user message of the newest run, if the cut left it out."""
    if not units:
        return None
    for unit in units[:start]:
        if unit[0].run_id == units[-1][0].run_id and unit[0].role is MessageRole.USER:
            return unit[0]
    return None


def _missing_result(message: Message, call_id: str, name: str) -> Message:
    return replace(
        message,
        role=MessageRole.TOOL,
        text=_NO_RESULT,
        reasoning="",
        reasoning_signature="",
        tool_calls=(),
        tool_call_id=call_id,
        tool_name=name,
        tool_outcome=ToolCallOutcome.UNKNOWN,
    )


def _shortened(message: Message, cap_tokens: int) -> Message:
    text = shorten(message.text, cap_tokens)
    return message if text is message.text else replace(message, text=text)


def shorten(text: str, cap_tokens: int) -> str:
    """The text with its middle replaced by a note if it is estimated at more than `cap_tokens`; else the same object."""
    estimate = estimate_tokens(text)
    if estimate <= cap_tokens:
        return text
    keep = max(32, int(len(text) * cap_tokens / estimate) - len(_CUT_NOTE))
    head, tail = keep - keep // 3, keep // 3
    return text[:head] + _CUT_NOTE.format(count=len(text) - head - tail) + text[len(text) - tail :]
