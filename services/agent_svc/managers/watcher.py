"""Following a conversation or a run: the table first, then live, without a gap and without a duplicate.

Every event has the next seq or is dropped (seen before) or makes the watcher read the table (something is missing). A delta
joins the text so far, or is dropped, or makes the watcher ask the run's owner for a snapshot.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from uuid import UUID

from agent_svc.domain.frame import CheckpointFrame, DeltaFrame, EventFrame, Frame, SnapshotFrame
from agent_svc.domain.log import LogHead
from agent_svc.interfaces.run_log import EventLog
from agent_svc.managers.hub import Feed, Hub
from chassis.errors import OutOfRange, Unavailable

CHECKPOINT_S = 15.0
# While frames of other processes cannot arrive, the table is read this often.
POLL_S = 1.0
_PAGE = 500


class Seam:
    """How far the deltas of the message in progress have got."""

    def __init__(self) -> None:
        self._at: tuple[UUID, int] | None = None
        self._offsets = [0, 0]

    def reset(self) -> None:
        """Nothing is known: the next delta must be the first, or needs a snapshot."""
        self._at = None

    def snapshot(self, frame: SnapshotFrame) -> None:
        """All up to here is known."""
        self._at = (frame.message_id, frame.attempt)
        self._offsets = [len(frame.text), len(frame.reasoning)]

    def join(self, delta: DeltaFrame) -> DeltaFrame | bool | None:
        """The part of a delta that is new, None if none is, False if something before it is missing."""
        if self._at is not None and delta.message_id == self._at[0] and delta.attempt < self._at[1]:
            return None
        if self._at != (delta.message_id, delta.attempt):
            self._at = (delta.message_id, delta.attempt)
            self._offsets = [0, 0]
        kind = int(delta.reasoning)
        known = self._offsets[kind]
        end = delta.offset + len(delta.text)
        if delta.offset > known:
            self._at = None
            return False
        if end <= known:
            return None
        self._offsets[kind] = end
        if delta.offset == known:
            return delta
        piece = delta.text[known - delta.offset :]
        return DeltaFrame(delta.run_id, delta.message_id, delta.attempt, delta.reasoning, known, piece)


class Watcher:
    """One follower of a conversation, or of one run in it. Use `batches` once.

    `ended` says that the run has ended already: then nothing comes after what the table has.
    """

    def __init__(
        self,
        log: EventLog,
        hub: Hub,
        organization_id: UUID,
        conversation_id: UUID,
        run_id: UUID | None,
        after_seq: int,
        *,
        ended: bool = False,
    ) -> None:
        self._log = log
        self._hub = hub
        self._organization_id = organization_id
        self._conversation_id = conversation_id
        self._run_id = run_id
        self._seq = after_seq
        self._seam = Seam()
        self._ended = False
        self._over = ended

    async def batches(self, feed: Feed, *, from_table: bool = True) -> AsyncGenerator[list[Frame], None]:
        """What is ready, in order, each time something is; ends after the watched run's terminal event.

        `feed` was attached before; it stays the caller's. `from_table=False` when nothing before the feed is wanted.
        Raises NotFound when the conversation is gone.
        """
        if from_table:
            async for batch in self._catch_up(feed, joining=True):
                yield batch
        self._ended = self._ended or self._over
        quiet_s = 0.0
        while not self._ended:
            wait_s = CHECKPOINT_S if self._hub.connected else POLL_S
            frames = await feed.take(wait_s)
            quiet_s = 0.0 if frames else quiet_s + wait_s
            ready: list[Frame] = []
            missing = feed.stale or not frames
            if not missing:
                missing = await self._process(feed, frames, ready)
            if ready:
                yield ready
            if missing:
                async for batch in self._catch_up(feed, joining=False):
                    quiet_s = 0.0
                    yield batch
                if quiet_s >= CHECKPOINT_S and not self._ended:
                    quiet_s = 0.0
                    yield [CheckpointFrame(self._seq)]

    async def _process(self, feed: Feed, frames: Iterable[Frame], ready: list[Frame]) -> bool:
        """Appends what follows without a seam; True if something before it is missing from the table's part."""
        for frame in frames:
            if self._ended:
                return False
            if isinstance(frame, EventFrame):
                if frame.seq > self._seq + 1:
                    return True
                if frame.seq == self._seq + 1:
                    self._event(frame, ready)
            elif isinstance(frame, DeltaFrame):
                await self._delta(feed, frame, ready)
        return False

    def _event(self, frame: EventFrame, ready: list[Frame]) -> None:
        self._seq = frame.seq
        if self._run_id is None or frame.run_id == self._run_id:
            ready.append(frame)
            self._ended = self._run_id is not None and frame.type.terminal

    async def _delta(self, feed: Feed, frame: DeltaFrame, ready: list[Frame]) -> None:
        if self._run_id is not None and frame.run_id != self._run_id:
            return
        joined = self._seam.join(frame)
        if isinstance(joined, DeltaFrame):
            ready.append(joined)
        elif joined is False:
            await self._snapshot(feed.owner, frame.run_id, ready)

    async def _snapshot(self, owner: str, run_id: UUID, ready: list[Frame]) -> None:
        snapshot = await self._hub.snapshot(owner, run_id)
        if snapshot is not None:
            self._seam.snapshot(snapshot)
            ready.append(snapshot)

    async def _catch_up(self, feed: Feed, *, joining: bool) -> AsyncGenerator[list[Frame], None]:
        """The table from here to its head, then what is being written now."""
        found = False
        while not self._ended:
            feed.clear()
            try:
                head, events = await self._log.events(self._organization_id, self._conversation_id, self._seq, _PAGE)
            except Unavailable:
                # The database will be back: the log goes on then, and the watcher with it.
                if joining:
                    raise
                return
            if joining and self._seq > head.head_seq:
                raise beyond_head(head)
            ready: list[Frame] = []
            for event in events:
                if self._ended:
                    break
                self._event(event, ready)
            found = found or bool(events)
            if len(events) < _PAGE:
                await self._partial(feed, head, ready, joining=joining or found)
                if ready:
                    yield ready
                return
            if ready:
                yield ready

    async def _partial(self, feed: Feed, head: LogHead, ready: list[Frame], *, joining: bool) -> None:
        """Joins the message in progress; what was known of one may belong to a message that is complete by now."""
        if not joining or self._ended:
            return
        self._seam.reset()
        if head.run_id is None or (self._run_id is not None and self._run_id != head.run_id):
            return
        feed.owner = feed.owner or head.owner
        await self._snapshot(head.owner, head.run_id, ready)


def beyond_head(head: LogHead) -> OutOfRange:
    """The log is not that long."""
    return OutOfRange(
        f"after_seq lies beyond the head of the log, which is {head.head_seq}",
        reason="SEQ_OUT_OF_RANGE",
        metadata={"head_seq": str(head.head_seq)},
    )
