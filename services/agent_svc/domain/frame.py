"""What travels to watchers: stored events, and the pieces of a message that is being written."""

from __future__ import annotations

from uuid import UUID

import msgspec

from agent_svc.domain.event import EventType


class EventFrame(msgspec.Struct, frozen=True, array_like=True, tag=1, tag_field="frame"):
    """A durable event as stored. `body` is the serialized event without seq, run, conversation and epoch: those are here."""

    seq: int
    run_id: UUID
    epoch: int
    type: EventType
    body: bytes


class DeltaFrame(msgspec.Struct, frozen=True, array_like=True, tag=2, tag_field="frame"):
    """A piece of a message. `offset` counts the code points of its kind (text, or reasoning) before it."""

    run_id: UUID
    message_id: UUID
    attempt: int
    reasoning: bool
    offset: int
    text: str


class SnapshotFrame(msgspec.Struct, frozen=True, array_like=True, tag=3, tag_field="frame"):
    """All of a message so far."""

    run_id: UUID
    message_id: UUID
    attempt: int
    text: str
    reasoning: str


class CheckpointFrame(msgspec.Struct, frozen=True, array_like=True, tag=4, tag_field="frame"):
    """Nothing happened for a while; the log's head is here."""

    head_seq: int


Frame = EventFrame | DeltaFrame | SnapshotFrame | CheckpointFrame
