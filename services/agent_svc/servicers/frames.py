"""Frames for watchers: what the managers deliver, as hearth.agent.v1.Frame."""

from __future__ import annotations

from uuid import UUID

from agent_svc.domain.event import EventType
from agent_svc.domain.frame import CheckpointFrame, DeltaFrame, EventFrame, Frame, SnapshotFrame
from chassis import ids
from hearth.agent.v1 import event_pb2


class FrameWriter:
    """Writes the frames of one conversation; remembers the wire ids that come again and again."""

    def __init__(self, organization_id: UUID, conversation_id: UUID) -> None:
        self._organization_id = ids.encode("org", organization_id)
        self._conversation_id = ids.encode("conv", conversation_id)
        self._run: tuple[UUID, str] = (UUID(int=0), "")
        self._message: tuple[UUID, str] = (UUID(int=0), "")

    def write(self, frame: Frame) -> event_pb2.Frame:
        """One frame as on the wire."""
        out = event_pb2.Frame()
        self.fill(frame, out)
        return out

    def fill(self, frame: Frame, out: event_pb2.Frame) -> None:
        """Fills an empty message."""
        match frame:
            case EventFrame():
                self._event(frame, out.event)
            case DeltaFrame():
                delta = out.delta
                delta.run_id = self._run_id(frame.run_id)
                delta.message_id = self._message_id(frame.message_id)
                delta.attempt = frame.attempt
                delta.kind = event_pb2.DELTA_KIND_REASONING if frame.reasoning else event_pb2.DELTA_KIND_TEXT
                delta.offset = frame.offset
                delta.text = frame.text
            case SnapshotFrame():
                snapshot = out.snapshot
                snapshot.run_id = self._run_id(frame.run_id)
                snapshot.message_id = self._message_id(frame.message_id)
                snapshot.attempt = frame.attempt
                snapshot.text = frame.text
                snapshot.reasoning = frame.reasoning
            case CheckpointFrame():
                out.checkpoint.head_seq = frame.head_seq

    def _event(self, frame: EventFrame, event: event_pb2.RunEvent) -> None:
        event.MergeFromString(frame.body)
        event.seq = frame.seq
        event.run_id = self._run_id(frame.run_id)
        event.conversation_id = self._conversation_id
        if frame.type is EventType.MESSAGE_COMPLETED:
            message = event.message_completed.message
            message.organization_id = self._organization_id
            message.conversation_id = self._conversation_id
            message.run_id = event.run_id
            message.seq = frame.seq
        elif frame.type is EventType.RUN_STARTED:
            event.run_started.epoch = frame.epoch

    def _run_id(self, run_id: UUID) -> str:
        if self._run[0] != run_id:
            self._run = (run_id, ids.encode("run", run_id))
        return self._run[1]

    def _message_id(self, message_id: UUID) -> str:
        if self._message[0] != message_id:
            self._message = (message_id, ids.encode("msg", message_id))
        return self._message[1]
