"""The conversation as the model reads it: in its order, with call/result pairs whole, and short enough for the window."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.image import IMAGE_TOKENS
from agent_svc.domain.model import ToolCall
from agent_svc.domain.tokens import estimate_tokens

# Of the budget, the share that a single text may take before its middle is cut out.
_LARGEST_TEXT_SHARE = 0.5
# Tokens below which a text is not cut further.
_SMALLEST_TEXT = 12
_NO_RESULT = "No result: the run ended before this call finished."
_CUT_NOTE = "\n[… {count} characters left out: too long for the context window …]\n"
_SHORT_CUT_NOTE = "[…]"
_NO_IMAGES = "\n[{count} images left out: too large for the context window]"
# Up to this many tokens the short note stands in a text that is cut.
_SHORT_NOTE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Window:
    """What of the history is sent, a summary first. `pinned` is True when the first message after it stands before a gap."""

    messages: tuple[Message, ...]
    tokens: int
    pinned: bool = False


def since_summary(messages: Sequence[Message]) -> Sequence[Message]:
    """The newest summary and what it does not stand for, in the given order; the messages themselves if there is none."""
    for summary in reversed(messages):
        link = summary.summarized
        if link is not None:
            return [m for m in messages if m is summary or (m.role is not MessageRole.SUMMARY and not link.covers(m))]
    return messages


def in_model_order(messages: Sequence[Message]) -> list[Message]:
    """Sorted by run, then by seq, the newest summary first and without what it stands for.

    Results stand right behind their calls, in the order of the calls. A call without a result gets one that says so, unless it
    belongs to the newest assistant message of the newest run, which may still be at work. Results without their call (its
    message was left out) are dropped.
    """
    ordered = sorted(
        since_summary(messages),
        key=lambda message: (message.role is not MessageRole.SUMMARY, message.run_seq, message.seq),
    )
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
    possible. The summary, what the current run began with and the newest unit are always kept; texts too large for the
    window lose their middle. `tokens` are more than the budget only if those three do not fit however short.
    """
    if not messages:
        return Window((), 0)
    cap = largest_text(budget)
    first = 1 if messages[0].role is MessageRole.SUMMARY else 0
    newest = max(first, unit_start(messages, len(messages)))
    opening = _opening(messages, newest)
    leading = [*messages[:first], *([] if opening is None else [messages[opening]])]
    required = _within([*leading, *messages[newest:]], cap, budget)
    used, end = sum(message.tokens for message in required), newest
    kept: deque[list[Message]] = deque()
    while end > first:
        start = max(first, unit_start(messages, end))
        if start == opening:
            kept.appendleft([required[first]])
            opening, end = None, start
            continue
        unit = [shortened(message, cap) for message in messages[start:end]]
        cost = sum(message.tokens for message in unit)
        if used + cost > budget:
            break
        kept.appendleft(unit)
        used += cost
        end = start
    if end > first:
        used -= _drop_headless(kept, messages[-1])
    pinned = [] if opening is None else [required[first]]
    between = [message for unit in kept for message in unit]
    return Window((*required[:first], *pinned, *between, *required[len(leading) :]), used, pinned=opening is not None)


def largest_text(budget: int) -> int:
    """Tokens that a single message of a history in that budget may have before it is shortened."""
    return max(64, int(budget * _LARGEST_TEXT_SHARE))


def unit_start(messages: Sequence[Message], end: int) -> int:
    """Where the unit begins that ends before `end`."""
    start = end - 1
    while start > 0 and messages[start].role is MessageRole.TOOL:
        start -= 1
    return start


def _opening(messages: Sequence[Message], newest: int) -> int | None:
    """Where the user message of the newest run is, if before the newest unit."""
    run_id = messages[-1].run_id
    for index in range(newest - 1, -1, -1):
        message = messages[index]
        if message.role is MessageRole.USER and message.run_id == run_id:
            return index
    return None


def _within(messages: list[Message], cap: int, budget: int) -> list[Message]:
    """Each message within `cap`, and all together within the budget as far as that can be."""
    fitted = [shortened(message, cap) for message in messages]
    while cap > _SMALLEST_TEXT and sum(message.tokens for message in fitted) > budget:
        cap = cap * 3 // 4
        fitted = [shortened(message, cap) for message in messages]
    return fitted


def _drop_headless(kept: deque[list[Message]], newest: Message) -> int:
    """Drops units before the first user message, as far as they are not the newest run's; returns their tokens."""
    dropped = 0
    while kept and kept[0][0].role is not MessageRole.USER and kept[0][0].run_id != newest.run_id:
        dropped += sum(message.tokens for message in kept.popleft())
    return dropped


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


def shortened(message: Message, cap_tokens: int) -> Message:
    """The message with its long parts cut until it has `cap_tokens`, as far as that can be; the same object if it has."""
    part, cut = cap_tokens, message
    while cut.tokens > cap_tokens and part >= _SMALLEST_TEXT:
        cut = _with_parts_of(message, part)
        part = part * 3 // 4
    return cut


def _with_parts_of(message: Message, most: int) -> Message:
    """Text, arguments of calls, reasoning and images: none with more tokens than that."""
    text = shorten(message.text, most)
    images = message.images
    if len(images) * IMAGE_TOKENS > most:
        text, images = text + _NO_IMAGES.format(count=len(images)), ()
    reasoning, signature = message.reasoning, message.reasoning_signature
    if signature and estimate_tokens(reasoning) > most:
        reasoning = signature = ""
    return replace(
        message,
        text=text,
        images=images,
        reasoning=reasoning,
        reasoning_signature=signature,
        tool_calls=tuple(_shortened_call(call, most) for call in message.tool_calls),
    )


def _shortened_call(call: ToolCall, cap_tokens: int) -> ToolCall:
    """Its arguments as one JSON object that holds their beginning and end, if they are too long."""
    if estimate_tokens(call.arguments_json) <= cap_tokens:
        return call
    # Half: quotes and backslashes in it are escaped.
    arguments = json.dumps({"shortened": shorten(call.arguments_json, cap_tokens // 2)}, ensure_ascii=False)
    return replace(call, arguments_json=arguments)


def shorten(text: str, cap_tokens: int) -> str:
    """The text with its middle replaced by a note if it is estimated at more than `cap_tokens`; else the same object."""
    estimate = estimate_tokens(text)
    if estimate <= cap_tokens:
        return text
    note = _CUT_NOTE if cap_tokens > _SHORT_NOTE_TOKENS else _SHORT_CUT_NOTE
    keep = int(len(text) * cap_tokens / estimate) - len(note)
    while True:
        keep = max(8, keep)
        head, tail = keep - keep // 3, keep // 3
        cut = text[:head] + note.format(count=len(text) - head - tail) + text[len(text) - tail :]
        if keep == 8 or estimate_tokens(cut) <= cap_tokens:
            return cut
        keep = keep * 9 // 10
