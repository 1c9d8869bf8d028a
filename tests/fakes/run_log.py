"""A run as its server knows it: events for ever, pieces of text only while they are written. Scripted, for tests of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from hearth.agent.v1.conversation_pb2 import Message, MessageRole, ToolCallOutcome
from hearth.agent.v1.event_pb2 import DeltaKind, Frame, RunEvent
from hearth.agent.v1.run_pb2 import RunStopReason

_TERMINAL = ("run_succeeded", "run_failed", "run_cancelled")


class RunLog:
    """Frames are written one by one as somebody reads; whoever joins later gets the events that were missed, a snapshot of the message in
    progress, and what comes then."""

    def __init__(self, frames: Sequence[Frame] = (), *, pace_s: float = 0.0, hold_after: int | None = None) -> None:
        self.frames = list(frames)
        self._pace_s = pace_s
        self._hold_after = hold_after
        self._released = asyncio.Event()
        self._written = 0

    @property
    def events(self) -> list[RunEvent]:
        """All events of the script."""
        return [frame.event for frame in self.frames if frame.HasField("event")]

    @property
    def is_over(self) -> bool:
        """Whether the last event is written."""
        return any(f.event.WhichOneof("payload") in _TERMINAL for f in self.frames[: self._written])

    def cancel(self) -> None:
        """Replaces what was not written yet by the end of a cancelled run."""
        del self.frames[self._written :]
        event = RunEvent(seq=max((e.seq for e in self.events), default=0) + 1)
        event.run_cancelled.SetInParent()
        self.frames.append(Frame(event=event))
        self._released.set()

    async def follow(self, after_seq: int) -> AsyncIterator[Frame]:
        """What is known after an event, then what comes."""
        at = self._written
        for frame in self.frames[:at]:
            if frame.HasField("event") and frame.event.seq > after_seq:
                yield frame
        snapshot = self._snapshot(at)
        if snapshot is not None:
            yield snapshot
        while True:
            if self._hold_after is not None and at >= self._hold_after:
                await self._released.wait()
            if at >= len(self.frames):
                return
            await asyncio.sleep(self._pace_s)
            frame = self.frames[at]
            at += 1
            self._written = max(self._written, at)
            yield frame

    def _snapshot(self, at: int) -> Frame | None:
        """The message in progress there, if there is one."""
        snapshot = None
        for frame in self.frames[:at]:
            if frame.HasField("delta"):
                delta = frame.delta
                if snapshot is None or snapshot.snapshot.attempt < delta.attempt:
                    snapshot = Frame()
                    snapshot.snapshot.message_id = delta.message_id
                    snapshot.snapshot.attempt = delta.attempt
                snapshot.snapshot.text += delta.text
            elif frame.event.WhichOneof("payload") in ("message_completed", "step_restarted"):
                snapshot = None
        return snapshot


class Script:
    """Writes the frames of a run: `Script().said("hi").writes("m1", "Hel", "lo").completed("m1", "Hello").succeeded()`."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._seq = 0
        self._offsets: dict[tuple[str, int], int] = {}

    def event(self) -> RunEvent:
        """An event with the next seq, to be filled in."""
        self._seq += 1
        frame = Frame()
        frame.event.seq = self._seq
        self.frames.append(frame)
        return frame.event

    def said(self, text: str) -> Script:
        """The run is accepted and begins."""
        self.event().run_queued.SetInParent()
        self._message("msg_user", text, MessageRole.MESSAGE_ROLE_USER)
        self.event().run_started.epoch = 1
        return self

    def writes(self, message_id: str, *pieces: str, attempt: int = 1) -> Script:
        """Deltas of a message."""
        for piece in pieces:
            offset = self._offsets.get((message_id, attempt), 0)
            frame = Frame()
            frame.delta.message_id = message_id
            frame.delta.attempt = attempt
            frame.delta.kind = DeltaKind.DELTA_KIND_TEXT
            frame.delta.offset = offset
            frame.delta.text = piece
            self._offsets[message_id, attempt] = offset + len(piece)
            self.frames.append(frame)
        return self

    def restarts(self, message_id: str, attempt: int) -> Script:
        """The message begins again."""
        restarted = self.event().step_restarted
        restarted.message_id = message_id
        restarted.attempt = attempt
        return self

    def completed(self, message_id: str, text: str) -> Script:
        """The assistant's message is complete."""
        self._message(message_id, text, MessageRole.MESSAGE_ROLE_ASSISTANT)
        return self

    def calls(self, name: str, arguments_json: str) -> Script:
        """A tool call begins and ends."""
        started = self.event().tool_call_started
        started.tool_call.name = name
        started.tool_call.arguments_json = arguments_json
        done = self.event().tool_call_completed
        done.name = name
        done.outcome = ToolCallOutcome.TOOL_CALL_OUTCOME_SUCCEEDED
        done.duration_ms = 7
        return self

    def succeeded(self) -> Script:
        """The run ended with an answer."""
        self.event().run_succeeded.stop_reason = RunStopReason.RUN_STOP_REASON_FINAL_ANSWER
        return self

    def failed(self, reason: str, message: str) -> Script:
        """The run failed."""
        error = self.event().run_failed.error
        error.reason = reason
        error.message = message
        return self

    def _message(self, message_id: str, text: str, role: MessageRole.ValueType) -> None:
        completed = Message(id=message_id, text=text, role=role)
        self.event().message_completed.message.CopyFrom(completed)
