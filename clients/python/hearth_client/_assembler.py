"""Puts messages together while they are being written, from frames that may repeat, skip or start again."""

from dataclasses import dataclass

from hearth.agent.v1.conversation_pb2 import Message
from hearth.agent.v1.event_pb2 import Delta, DeltaKind, Frame, Snapshot, StepRestarted

_KINDS = (DeltaKind.DELTA_KIND_TEXT, DeltaKind.DELTA_KIND_REASONING)


@dataclass(frozen=True, slots=True)
class MessageChange:
    """What a frame changed in a message: what a screen has to do.

    `replaced` is False when `text_added` and `reasoning_added` only came at the end. True when what was there before is void: show
    `text` and `reasoning` instead. `message` is set when it is complete.
    """

    message_id: str
    text: str
    reasoning: str
    text_added: str = ""
    reasoning_added: str = ""
    replaced: bool = False
    message: Message | None = None


@dataclass(slots=True)
class _Partial:
    attempt: int = 0
    text: str = ""
    reasoning: str = ""


class MessageAssembler:
    """Feed it the frames of a run or a conversation in the order they come.

    The text of a message in progress is at all times a beginning of what its newest attempt has written; once the message is complete
    it is exactly its text. Pieces that come twice change nothing. After a missing piece it waits for the next snapshot or the complete
    message.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        """Complete messages, in order."""
        self._partials: dict[str, _Partial] = {}
        self._complete: set[str] = set()

    def partial_text(self, message_id: str) -> str:
        """What an incomplete message says so far; empty if nothing is known of it."""
        partial = self._partials.get(message_id)
        return partial.text if partial else ""

    def feed(self, frame: Frame) -> MessageChange | None:
        """What this frame changes; None if nothing."""
        kind = frame.WhichOneof("kind")
        if kind == "delta":
            return self._delta(frame.delta)
        if kind == "snapshot":
            return self._snapshot(frame.snapshot)
        if kind != "event":
            return None
        payload = frame.event.WhichOneof("payload")
        if payload == "message_completed":
            return self._completed(frame.event.message_completed.message)
        if payload == "step_restarted":
            return self._restarted(frame.event.step_restarted)
        if payload in ("run_failed", "run_cancelled"):
            # What was in progress will never be complete.
            self._partials.clear()
        return None

    def _delta(self, delta: Delta) -> MessageChange | None:
        if delta.message_id in self._complete or delta.kind not in _KINDS:
            return None
        partial = self._partials.setdefault(delta.message_id, _Partial())
        if delta.attempt < partial.attempt:
            return None
        base = partial if delta.attempt == partial.attempt else _Partial(delta.attempt)
        is_text = delta.kind == DeltaKind.DELTA_KIND_TEXT
        known = base.text if is_text else base.reasoning
        if delta.offset > len(known):
            # Something is missing. What an older attempt had is void all the same.
            return self._become(delta.message_id, base.attempt, base.text, base.reasoning)
        longer = known + delta.text[len(known) - delta.offset :]
        if is_text:
            return self._become(delta.message_id, delta.attempt, longer, base.reasoning)
        return self._become(delta.message_id, delta.attempt, base.text, longer)

    def _snapshot(self, snapshot: Snapshot) -> MessageChange | None:
        if snapshot.message_id in self._complete:
            return None
        partial = self._partials.setdefault(snapshot.message_id, _Partial())
        if snapshot.attempt < partial.attempt:
            return None
        text, reasoning = snapshot.text, snapshot.reasoning
        if snapshot.attempt == partial.attempt:
            # Deltas may have been faster than the snapshot.
            text = partial.text if partial.text.startswith(text) else text
            reasoning = partial.reasoning if partial.reasoning.startswith(reasoning) else reasoning
        return self._become(snapshot.message_id, snapshot.attempt, text, reasoning)

    def _restarted(self, restarted: StepRestarted) -> MessageChange | None:
        if restarted.message_id in self._complete:
            return None
        partial = self._partials.setdefault(restarted.message_id, _Partial())
        if restarted.attempt <= partial.attempt:
            return None
        return self._become(restarted.message_id, restarted.attempt, "", "")

    def _completed(self, message: Message) -> MessageChange | None:
        if message.id in self._complete:
            return None
        before = self._partials.pop(message.id, _Partial())
        self._complete.add(message.id)
        self.messages.append(message)
        return _change(message.id, before, message.text, message.reasoning, message)

    def _become(self, message_id: str, attempt: int, text: str, reasoning: str) -> MessageChange | None:
        before = self._partials[message_id]
        self._partials[message_id] = _Partial(attempt, text, reasoning)
        if (before.text, before.reasoning) == (text, reasoning):
            return None
        return _change(message_id, before, text, reasoning, None)


def _change(message_id: str, before: _Partial, text: str, reasoning: str, message: Message | None) -> MessageChange:
    grew = text.startswith(before.text) and reasoning.startswith(before.reasoning)
    return MessageChange(
        message_id=message_id,
        text=text,
        reasoning=reasoning,
        text_added=text[len(before.text) :] if grew else "",
        reasoning_added=reasoning[len(before.reasoning) :] if grew else "",
        replaced=not grew,
        message=message,
    )
