"""Frames of agent_svc as frames of the socket. An event is encoded once for all who follow it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from gateway import frames
from gateway.interfaces import EncodedDelta, EncodedEvent
from gateway.proto_json import to_value
from gateway.protocol import MAX_OUTBOUND_BYTES
from hearth.agent.v1 import event_pb2

_KEPT_BYTES: Final = 8 * 1024 * 1024
# Room for the frame's head: its type and the subscription's name.
_MAX_BODY: Final = MAX_OUTBOUND_BYTES - 1024

_KINDS: Final = {event_pb2.DELTA_KIND_TEXT: "text", event_pb2.DELTA_KIND_REASONING: "reasoning"}


class FrameEncoder:
    """Keeps the newest encoded events (8 MiB in all), so that many followers of one conversation cost one encoding."""

    def __init__(self) -> None:
        self._events: OrderedDict[tuple[str, int], EncodedEvent] = OrderedDict()
        self._bytes = 0
        self.encoded = 0

    def event(self, event: event_pb2.RunEvent) -> EncodedEvent:
        """The event for any subscriber; without its data where that would not fit a frame."""
        key = (event.conversation_id, event.seq)
        known = self._events.get(key)
        if known is not None:
            self._events.move_to_end(key)
            return known
        encoded = _event(event)
        self.encoded += 1
        self._events[key] = encoded
        self._bytes += len(encoded.body)
        while self._bytes > _KEPT_BYTES:
            _, oldest = self._events.popitem(last=False)
            self._bytes -= len(oldest.body)
        return encoded

    def deltas(self, frame: event_pb2.Frame) -> list[EncodedDelta]:
        """A delta, snapshot or checkpoint as the frames it becomes; none where it would not fit one."""
        kind = frame.WhichOneof("kind")
        if kind == "delta":
            found = [_delta(frame.delta)]
        elif kind == "snapshot":
            found = _snapshots(frame.snapshot)
        elif kind == "checkpoint":
            found = [frames.delta_body("checkpoint", {"seq": frame.checkpoint.head_seq})]
        else:
            found = []
        return [delta for delta in found if len(delta.body) <= _MAX_BODY]


def _event(event: event_pb2.RunEvent) -> EncodedEvent:
    time = event.create_time.ToJsonString()
    name = event.WhichOneof("payload") or "unknown"
    data = {} if name == "unknown" else to_value(getattr(event, name))
    encoded = frames.event_body(event.seq, time, event.run_id, name, data)
    if len(encoded.body) > _MAX_BODY:
        return frames.omitted_event_body(event.seq, time, event.run_id, name)
    return encoded


def _delta(delta: event_pb2.Delta) -> EncodedDelta:
    return frames.delta_body(
        "delta",
        {
            "run_id": delta.run_id,
            "message_id": delta.message_id,
            "attempt": delta.attempt,
            "kind": _KINDS.get(delta.kind, "text"),
            "offset": delta.offset,
            "text": delta.text,
        },
    )


def _snapshots(snapshot: event_pb2.Snapshot) -> list[EncodedDelta]:
    texts = {"text": snapshot.text}
    if snapshot.reasoning:
        texts["reasoning"] = snapshot.reasoning
    return [
        frames.delta_body(
            "snapshot",
            {
                "run_id": snapshot.run_id,
                "message_id": snapshot.message_id,
                "attempt": snapshot.attempt,
                "kind": kind,
                "offset": 0,
                "text": text,
            },
        )
        for kind, text in texts.items()
    ]
