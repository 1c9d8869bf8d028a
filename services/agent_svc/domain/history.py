"""The conversation as the model reads it: in its order, with call/result pairs whole, and short enough for the window."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.tokens import estimate_tokens

# Of the budget, the share that a single text may take before its middle is cut out.
_LARGEST_TEXT_SHARE = 0.5
_BEGINNERS = (MessageRole.USER, MessageRole.SUMMARY)
_NO_RESULT = "No result: the run ended before this call finished."
_CUT_NOTE = "\n[… {count} characters left out: too long for the context window …]\n"


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
    kept: deque[list[Message]] = deque()
    used, end = 0, len(messages)
    while end > 0:
        unit = _unit_before(messages, end, cap)
        cost = sum(message.tokens for message in unit)
        if kept and used + cost > budget:
            break
        kept.appendleft(unit)
        used += cost
        end -= len(unit)
    if end > 0:
        used -= _drop_headless(kept)
    opening = _opening(messages, kept, cap)
    window = tuple(message for unit in kept for message in unit)
    if opening is None:
        return Window(window, used)
    return Window((opening, *window), used + opening.tokens, pinned=True)


def _unit_before(messages: Sequence[Message], end: int, cap: int) -> list[Message]:
    start = end - 1
    while start > 0 and messages[start].role is MessageRole.TOOL:
        start -= 1
    return [message if message.tokens <= cap else _shortened(message, cap) for message in messages[start:end]]


def _drop_headless(kept: deque[list[Message]]) -> int:
    """Drops units before the first user message, as far as they are not the newest run's; returns their tokens."""
    dropped = 0
    newest = kept[-1][0].run_id
    while len(kept) > 1 and kept[0][0].role not in _BEGINNERS and kept[0][0].run_id != newest:
        dropped += sum(message.tokens for message in kept.popleft())
    return dropped


def _opening(messages: Sequence[Message], kept: Sequence[list[Message]], cap: int) -> Message | None:
    """The user message of the newest run, if the cut left it out."""
    if not kept:
        return None
    run_id = kept[-1][0].run_id
    if any(unit[0].run_id == run_id and unit[0].role is MessageRole.USER for unit in kept):
        return None
    for message in messages:
        if message.run_id == run_id and message.role is MessageRole.USER:
            return _shortened(message, cap)
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
