"""What a single client may rely on in its stream: the log exactly, and pieces of messages that fit together."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hearth.agent.v1 import event_pb2
from tests.reliability.checker.history import Seen
from tests.reliability.checker.stored import StoredConversation


def streams(seen: Seen, conversation: StoredConversation) -> Iterator[str]:
    """Its events are those of the log, byte for byte: none missing, none twice, in order."""
    name = f"{seen.run_id or seen.conversation_id} after {seen.after_seq}"
    there = [
        one.event
        for one in conversation.events
        if one.event.seq > seen.after_seq and (not seen.run_id or one.event.run_id == seen.run_id)
    ]
    got = seen.events
    if not seen.through_end:
        there = there[: len(got)]
    if [event.seq for event in got] != [event.seq for event in there]:
        yield f"{name}: saw {[event.seq for event in got]}, the log has {[event.seq for event in there]}"
        return
    for event, stored in zip(got, there, strict=True):
        if event != stored:
            yield f"{name}: seq {event.seq} was seen as {_short(event)}, the log has {_short(stored)}"


@dataclass
class _Partial:
    attempt: int = 0
    texts: dict[int, str] = field(default_factory=dict[int, str])


def deltas(seen: Seen) -> Iterator[str]:
    """Pieces join without a gap, never contradict what came before, and become the message that is stored.

    A piece may come again (it is idempotent), even after the whole message.
    """
    partials: dict[str, _Partial] = {}
    done: set[str] = set()
    for frame in seen.frames:
        match frame.WhichOneof("kind"):
            case "delta" if frame.delta.message_id not in done:
                yield from _join(partials.setdefault(frame.delta.message_id, _Partial()), frame.delta)
            case "snapshot" if frame.snapshot.message_id not in done:
                snapshot = frame.snapshot
                partial = partials.setdefault(snapshot.message_id, _Partial())
                if snapshot.attempt < partial.attempt:
                    yield f"{snapshot.message_id}: a snapshot of attempt {snapshot.attempt} after {partial.attempt}"
                partial.attempt = snapshot.attempt
                partial.texts = {event_pb2.DELTA_KIND_TEXT: snapshot.text}
                partial.texts[event_pb2.DELTA_KIND_REASONING] = snapshot.reasoning
            case "event":
                yield from _event(partials, done, frame.event)
            case _:
                pass


def _join(partial: _Partial, delta: event_pb2.Delta) -> Iterator[str]:
    if delta.attempt < partial.attempt:
        yield f"{delta.message_id}: a piece of attempt {delta.attempt} after {partial.attempt}"
        return
    if delta.attempt > partial.attempt:
        partial.attempt, partial.texts = delta.attempt, {}
    known = partial.texts.get(delta.kind, "")
    if delta.offset > len(known):
        yield f"{delta.message_id}: a piece at {delta.offset}, after {len(known)} characters"
    again = known[delta.offset : delta.offset + len(delta.text)]
    if not delta.text.startswith(again):
        yield f"{delta.message_id}: {delta.text[:80]!r} at {delta.offset}, where {again[:80]!r} was before"
    partial.texts[delta.kind] = max(known, known[: delta.offset] + delta.text, key=len)


def _event(partials: dict[str, _Partial], done: set[str], event: event_pb2.RunEvent) -> Iterator[str]:
    if event.HasField("step_restarted"):
        restarted = event.step_restarted
        partials[restarted.message_id] = _Partial(restarted.attempt)
    if not event.HasField("message_completed"):
        return
    message = event.message_completed.message
    done.add(message.id)
    partial = partials.get(message.id)
    if partial is None:
        return
    for kind, whole in (
        (event_pb2.DELTA_KIND_TEXT, message.text),
        (event_pb2.DELTA_KIND_REASONING, message.reasoning),
    ):
        streamed = partial.texts.get(kind, "")
        if not whole.startswith(streamed):
            yield f"{message.id}: {streamed[:80]!r} was streamed, {whole[:80]!r} is stored"


def _short(event: event_pb2.RunEvent) -> str:
    return str(event).replace("\n", " ")[:200]
