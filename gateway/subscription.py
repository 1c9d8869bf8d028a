"""One client's place in one log: order, duplicates, the window of unacknowledged events, pausing and going on."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from typing import Final

from chassis.errors import DomainError, not_found
from chassis.identity import Identity
from gateway import frames
from gateway.interfaces import ClientInterface, EncodedDelta, EncodedEvent, Topic, WatchSource
from gateway.protocol import WINDOW

MAX_PARKED_EVENTS: Final = 512
MAX_PARKED_BYTES: Final = 512 * 1024
_MAX_REOPENINGS_WITHOUT_PROGRESS: Final = 5


class State(enum.Enum):
    """PENDING until the watch stands first; PAUSED while nothing comes: the client is behind, or the watch opens anew."""

    PENDING = enum.auto()
    LIVE = enum.auto()
    PAUSED = enum.auto()
    OVER = enum.auto()


class Subscription:
    """A WatchListener that hands on to a client what it can take.

    Events beyond the window are parked; when too many are, or the client's own buffer is full, the watch is closed and
    opened again after the last event handed over once the client has caught up. So memory is bounded, nothing is
    lost, and nobody else waits. Deltas met while behind are dropped: the reopening brings a snapshot.
    """

    __slots__ = (
        "_client",
        "_delivered",
        "_deltas_lost",
        "_identity",
        "_on_opened",
        "_on_over",
        "_parked",
        "_parked_bytes",
        "_reopenings",
        "_source",
        "_unacked",
        "_waits_for_room",
        "_watch",
        "name",
        "state",
        "topic",
    )

    def __init__(
        self,
        source: WatchSource,
        client: ClientInterface,
        *,
        name: str,
        topic: Topic,
        after_seq: int | None,
        identity: Callable[[], Identity],
        on_opened: Callable[[bool, int, int], None],
        on_over: Callable[[DomainError | None], None],
    ) -> None:
        """`on_opened` is called once, before anything else is sent; `on_over` once, when it ends by itself."""
        self.name = name
        self.topic = topic
        self.state = State.PENDING
        self._source = source
        self._client = client
        self._identity = identity
        self._on_opened = on_opened
        self._on_over = on_over
        self._delivered = after_seq
        self._unacked: deque[int] = deque()
        self._parked: deque[EncodedEvent] = deque()
        self._parked_bytes = 0
        self._deltas_lost = False
        self._waits_for_room = False
        self._reopenings = 0
        self._watch: int | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._watch = self._source.open(self.topic, self)

    def stop(self) -> None:
        """Let everything go; nothing is sent any more."""
        self.state = State.OVER
        self._parked.clear()
        self._unacked.clear()
        self._close_watch()

    def ack(self, seq: int) -> None:
        """The client has handled everything up to `seq`."""
        unacked = self._unacked
        while unacked and unacked[0] <= seq:
            unacked.popleft()
        if self.state is State.LIVE and self._parked:
            self._unpark()
        elif self.state is State.PAUSED:
            self._resume(WINDOW // 2)

    def renew(self) -> None:
        """The client's token was replaced."""
        if self._watch is not None:
            self._source.renew(self._watch)

    # What the watch reports.

    def identity(self) -> Identity:
        """The client as it is authenticated now."""
        return self._identity()

    def resume_after(self) -> int | None:
        """The last event that was handed over or is parked; None while it begins at the log's head."""
        return self._parked[-1].seq if self._parked else self._delivered

    def opened(self, resumed: bool, head_seq: int, first_seq: int) -> None:
        """The watch stands, or the log no longer reaches back to where this subscription is."""
        if self.state is State.OVER:
            return
        if self.state is State.PENDING:
            self.state = State.LIVE
            if self._delivered is None:
                self._delivered = head_seq
            self._on_opened(resumed, head_seq, first_seq)
            if not resumed:
                self.stop()
            return
        if resumed:
            self.state = State.LIVE
            return
        self._finish(frames.reset(self.name, "log_truncated"), None)

    def event(self, event: EncodedEvent) -> None:
        """Hand on, park, or fall behind."""
        last = self.resume_after() or 0
        if self.state is not State.LIVE or event.seq <= last:
            return
        if self.topic.kind == "conversation" and event.seq != last + 1:
            self._reopen()
        elif self._parked or len(self._unacked) >= WINDOW:
            self._park(event)
        elif not self._deliver(event):
            self._pause_until_room()

    def delta(self, delta: EncodedDelta) -> None:
        """Hand on unless behind; a dropped one is made good by a snapshot."""
        if self.state is not State.LIVE:
            return
        if self._parked:
            self._deltas_lost = True
        elif not self._client.send_delta(self.name, delta):
            self._pause_until_room()

    def ended(self, reason: str, error: DomainError | None) -> None:
        """The watch is over for good; what is parked is still delivered first."""
        self._watch = None
        if self.state is State.OVER:
            return
        if self.state is State.PENDING:
            self.state = State.OVER
            self._on_over(error or not_found(self.topic.kind, self.topic.id))
        elif reason in {"lagging", "log_truncated"}:
            self._finish(frames.reset(self.name, reason), error)
        elif self._parked:
            # The end must not overtake events: read the rest again once the client has caught up.
            self._parked.clear()
            self._parked_bytes = 0
            self.state = State.PAUSED
        else:
            self._finish(frames.end(self.name, reason, error), error)

    # How it keeps pace.

    def _deliver(self, event: EncodedEvent) -> bool:
        if not self._client.send_event(self.name, event):
            return False
        self._delivered = event.seq
        self._unacked.append(event.seq)
        self._reopenings = 0
        return True

    def _park(self, event: EncodedEvent) -> None:
        self._parked.append(event)
        self._parked_bytes += len(event.body)
        if len(self._parked) > MAX_PARKED_EVENTS or self._parked_bytes > MAX_PARKED_BYTES:
            self._pause()

    def _unpark(self) -> None:
        while self._parked and len(self._unacked) < WINDOW:
            event = self._parked[0]
            if not self._deliver(event):
                self._pause_until_room()
                return
            self._parked.popleft()
            self._parked_bytes -= len(event.body)
        if not self._parked and self._deltas_lost:
            self._reopen()

    def _pause(self) -> None:
        self._close_watch()
        self._parked.clear()
        self._parked_bytes = 0
        self.state = State.PAUSED

    def _pause_until_room(self) -> None:
        self._pause()
        if not self._waits_for_room:
            self._waits_for_room = True
            self._client.on_room(self._room)

    def _room(self) -> None:
        self._waits_for_room = False
        self._resume(WINDOW - 1)

    def _resume(self, unacked: int) -> None:
        """Follow again if nothing stands in the way and at most so many events are unacknowledged."""
        behind = self._waits_for_room or len(self._unacked) > unacked
        if self.state is State.PAUSED and self._watch is None and not behind:
            self._reopen()

    def _reopen(self) -> None:
        self._reopenings += 1
        if self._reopenings > _MAX_REOPENINGS_WITHOUT_PROGRESS:
            self._finish(frames.reset(self.name, "lagging"), None)
            return
        self._pause()
        self._deltas_lost = False
        self._watch = self._source.open(self.topic, self)

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._source.close(self._watch)
            self._watch = None

    def _finish(self, frame: bytes, error: DomainError | None) -> None:
        self.stop()
        self._client.send(frame)
        self._on_over(error)
