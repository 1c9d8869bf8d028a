"""Live frames in this process: from its own worker and from other processes, to everyone who watches here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import UUID

from agent_svc.domain.frame import CheckpointFrame, EventFrame, Frame, SnapshotFrame
from agent_svc.interfaces.event_bus import EventBus, FrameSubscription, RunOwner
from chassis.errors import Unavailable

# Frames that wait for a slow watcher; beyond that it loses deltas, and reads events from the table.
QUEUE_LIMIT = 1_000
# A subscription is kept this long after its last watcher left: the next turn of a chat comes soon.
LINGER_S = 20.0


class Feed:
    """One watcher's queue. `stale` says that frames may be missing: read the table."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._ready = asyncio.Event()
        self.stale = False
        self._closed = False
        # The worker whose frames came last: who to ask for a snapshot.
        self.owner = ""

    def offer(self, owner: str, frames: Sequence[Frame]) -> None:
        """Queues frames; on overflow drops deltas, then everything."""
        if owner:
            self.owner = owner
        self._frames.extend(frames)
        if len(self._frames) > QUEUE_LIMIT:
            self._frames = deque(frame for frame in self._frames if isinstance(frame, EventFrame))
            if len(self._frames) > QUEUE_LIMIT:
                self._frames.clear()
            self.stale = True
        self._ready.set()

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._frames

    def mark_stale(self) -> None:
        """Frames may have been lost."""
        self.stale = True
        self._ready.set()

    def clear(self) -> None:
        """Forgets what waits: the table is about to be read, and has every event of it."""
        self._frames.clear()
        self.stale = False

    def close(self) -> None:
        """Nothing more will come: what waits is still given out."""
        self._closed = True
        self._ready.set()

    async def take(self, timeout_s: float) -> list[Frame]:
        """All that waits; empty after `timeout_s` seconds of silence, or when the feed is stale.

        Raises Unavailable SHUTTING_DOWN when nothing more will come.
        """
        if self._closed and not self._frames:
            raise shutting_down()
        if not self._frames and not self.stale:
            self._ready.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._ready.wait()
            except TimeoutError:
                return []
            if self._closed and not self._frames:
                raise shutting_down()
        taken = list(self._frames)
        self._frames.clear()
        return taken


def shutting_down() -> Unavailable:
    """The watcher comes back to another replica, and goes on where it was."""
    return Unavailable("the server is shutting down", reason="SHUTTING_DOWN", retry_after_s=0.5)


class _Topic:
    """A watched conversation."""

    def __init__(self) -> None:
        self.feeds: set[Feed] = set()
        self.subscription: FrameSubscription | None = None
        self.subscribing = asyncio.Lock()
        self.expiry: asyncio.TimerHandle | None = None


class Hub:
    """One subscription per watched conversation, shared by all watchers of this process."""

    def __init__(self, bus: EventBus, worker: str, owner: RunOwner) -> None:
        self._bus = bus
        self._worker = worker
        self._owner = owner
        self._topics: dict[UUID, _Topic] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        bus.on_reconnect(self._reconnected)

    @property
    def connected(self) -> bool:
        """Whether frames of other processes arrive; if not, watchers must poll."""
        return self._bus.connected

    async def start(self) -> None:
        """Nothing to begin: conversations are subscribed to when they are watched."""

    async def stop(self) -> None:
        """Ends all watching, once the workers have said what they had to say."""
        self._closed = True
        for topic in self._topics.values():
            for feed in topic.feeds:
                feed.close()

    async def attach(self, conversation_id: UUID) -> Feed:
        """A feed of everything from now on. Give it back with `detach`. Raises Unavailable SHUTTING_DOWN."""
        if self._closed:
            raise shutting_down()
        topic = self._topics.setdefault(conversation_id, _Topic())
        if topic.expiry is not None:
            topic.expiry.cancel()
            topic.expiry = None
        feed = Feed()
        topic.feeds.add(feed)
        try:
            await self._subscribe(conversation_id, topic)
        except BaseException:
            self.detach(conversation_id, feed)
            raise
        return feed

    def detach(self, conversation_id: UUID, feed: Feed) -> None:
        """No more frames for the feed."""
        topic = self._topics.get(conversation_id)
        if topic is None:
            return
        topic.feeds.discard(feed)
        if not topic.feeds and topic.expiry is None:
            loop = asyncio.get_running_loop()
            topic.expiry = loop.call_later(LINGER_S, self._expire, conversation_id)

    async def publish(self, conversation_id: UUID, frames: Sequence[Frame]) -> None:
        """Frames of this process: to the watchers here at once, to the others over the bus."""
        topic = self._topics.get(conversation_id)
        if topic is not None:
            self._deliver(topic, self._worker, frames)
        await self._bus.publish_frames(conversation_id, self._worker, frames)

    async def snapshot(self, owner: str, run_id: UUID) -> SnapshotFrame | None:
        """The partial message of a run, from whoever works on it; None if there is none or nobody answers."""
        if owner == self._worker:
            return self._owner.snapshot(run_id)
        return await self._bus.ask_snapshot(owner, run_id) if owner else None

    async def close(self) -> None:
        """Ends all subscriptions."""
        for conversation_id in list(self._topics):
            self._expire(conversation_id, force=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)

    async def _subscribe(self, conversation_id: UUID, topic: _Topic) -> None:
        async with topic.subscribing:
            if topic.subscription is not None and topic.subscription.live:
                return
            topic.subscription = await self._bus.subscribe_frames(
                conversation_id, lambda owner, frames: self._deliver(topic, owner, frames)
            )

    def _deliver(self, topic: _Topic, owner: str, frames: Sequence[Frame]) -> None:
        for feed in topic.feeds:
            if any(isinstance(frame, CheckpointFrame) for frame in frames):
                feed.mark_stale()
            feed.offer(owner, frames)

    def _reconnected(self) -> None:
        for conversation_id, topic in self._topics.items():
            for feed in topic.feeds:
                feed.mark_stale()
            if topic.subscription is None or not topic.subscription.live:
                self._spawn(self._subscribe(conversation_id, topic))

    def _expire(self, conversation_id: UUID, force: bool = False) -> None:
        topic = self._topics.get(conversation_id)
        if topic is None or (topic.feeds and not force):
            return
        if topic.expiry is not None:
            topic.expiry.cancel()
        del self._topics[conversation_id]
        if topic.subscription is not None:
            self._spawn(topic.subscription.close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
