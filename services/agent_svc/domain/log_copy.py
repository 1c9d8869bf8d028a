"""Messages that come into a conversation from elsewhere: another conversation, or a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

from agent_svc.domain.conversation import Message, MessageRole


def whole_until(messages: Sequence[Message], last: Callable[[Message], bool] | None, seq: int | None) -> list[Message]:
    """Messages in the order in which the model reads them: until `last` is true, or those with a seq up to `seq`, or all.

    Calls and results stay together: with an assistant message come the results of its calls, and one that has a call
    without a result is left out with the others. Summaries are left out: what they stand for is there, and a copy is summed up
    anew. Raises LookupError if `last` is true of none.
    """
    ordered = sorted(messages, key=lambda message: (message.run_seq, message.seq))
    results = {(one.run_id, one.tool_call_id) for one in ordered if one.role is MessageRole.TOOL}
    reached = _reached(ordered, last, seq)
    kept: set[UUID] = set()
    answered: set[tuple[UUID, str]] = set()
    for message in reached:
        calls = {(message.run_id, call.id) for call in message.tool_calls}
        if message.role not in (MessageRole.TOOL, MessageRole.SUMMARY) and calls <= results:
            kept.add(message.id)
            answered |= calls
    # A cut at a result reaches its call, which stands before it.
    return [one for one in ordered if one.id in kept or (one.run_id, one.tool_call_id) in answered]


def _reached(ordered: Sequence[Message], last: Callable[[Message], bool] | None, seq: int | None) -> Sequence[Message]:
    if last is not None:
        for index, message in enumerate(ordered):
            if last(message):
                return ordered[: index + 1]
        raise LookupError
    return ordered if seq is None else [message for message in ordered if message.seq <= seq]


def renumbered(messages: Sequence[Message], new_id: Callable[[], UUID]) -> list[Message]:
    """The same as the log of a new conversation: with ids of their own, their runs too, and a seq from 1 on.

    `messages` are in the model's order, those of a run together.
    """
    runs: dict[UUID, tuple[UUID, int]] = {}
    made: list[Message] = []
    for seq, message in enumerate(messages, 1):
        if message.run_id not in runs:
            runs[message.run_id] = (new_id(), seq)
        run_id, run_seq = runs[message.run_id]
        made.append(replace(message, id=new_id(), run_id=run_id, run_seq=run_seq, seq=seq))
    return made
