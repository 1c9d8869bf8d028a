"""A client in this process whose owner blocks: the synchronous ClientInterface, for threads, scripts and tests."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from gateway import frames
from gateway.interfaces import EncodedDelta, EncodedEvent
from gateway.protocol import CloseCode

_CAPACITY: Final = 1024


class ClosedError(Exception):
    """The session is over; `code` says why."""

    def __init__(self, code: CloseCode) -> None:
        super().__init__(code.name)
        self.code = code


class SyncClient:
    """Queues decoded frames for a blocking reader in any thread; the sending side never blocks.

    `call_soon` brings a callback to the event loop's thread (`loop.call_soon_threadsafe`): reading makes room, and the
    subscriptions that wait for it live there.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], *, capacity: int = _CAPACITY) -> None:
        self._call_soon = call_soon
        self._capacity = capacity
        self._frames: queue.SimpleQueue[bytes | CloseCode] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        self._closed: CloseCode | None = None

    # The sending side.

    def send_event(self, sub: str, event: EncodedEvent) -> bool:
        """Queue an event unless the queue is full."""
        return self._offer(frames.head("event", sub) + event.body)

    def send_delta(self, sub: str, delta: EncodedDelta) -> bool:
        """Queue a delta, snapshot or checkpoint unless the queue is full."""
        return self._offer(frames.head(delta.kind, sub) + delta.body)

    def send(self, frame: bytes) -> bool:
        """Queue an answer or a notice."""
        if self._closed is not None:
            return False
        self._frames.put(frame)
        return True

    def close(self, code: CloseCode, message: str = "", *, retry_after_ms: int = 0, announce: bool = True) -> None:
        """Let the reader take what is queued, then tell it that this is the end."""
        if self._closed is not None:
            return
        if announce:
            self._frames.put(frames.closing(code, message, retry_after_ms))
        self._closed = code
        self._frames.put(code)

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call back, in the event loop's thread, once the reader has taken half of the queue."""
        with self._lock:
            self._waiting.append(callback)
        # The reader may have emptied the queue before it could see that somebody waits.
        self._make_room()

    # The reading side.

    def receive(self, timeout: float | None = None) -> dict[str, Any]:
        """The next frame. Raises ClosedError at the end, TimeoutError after `timeout` seconds without one."""
        try:
            item = self._frames.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("no frame in time") from None
        if isinstance(item, CloseCode):
            self._frames.put(item)
            raise ClosedError(item)
        self._make_room()
        frame: dict[str, Any] = orjson.loads(item)
        return frame

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All frames to the end of the session."""
        while True:
            try:
                yield self.receive()
            except ClosedError:
                return

    def _offer(self, frame: bytes) -> bool:
        if self._closed is not None or self._frames.qsize() >= self._capacity:
            return False
        self._frames.put(frame)
        return True

    def _make_room(self) -> None:
        if self._waiting and self._frames.qsize() <= self._capacity // 2:
            with self._lock:
                waiting, self._waiting = self._waiting, []
            for callback in waiting:
                self._call_soon(callback)
