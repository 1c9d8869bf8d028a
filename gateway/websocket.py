"""A client at the other end of a WebSocket: the asynchronous ClientInterface."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from gateway import frames
from gateway.interfaces import EncodedDelta, EncodedEvent
from gateway.protocol import MAX_OUTBOUND_BYTES, STALL_SECONDS, SUBPROTOCOL, CloseCode

_log = logging.getLogger(__name__)

# aiohttp ends the connection of who sends more; up to here we can read the frame and say 4413 in peace.
_READ_LIMIT: Final = 1024 * 1024
_CLOSE_SECONDS: Final = 2.0
_MAX_HEADS: Final = 256
_LIBRARY_CODES: Final = {
    int(WSCloseCode.MESSAGE_TOO_BIG): CloseCode.TOO_LARGE,
    int(WSCloseCode.INVALID_TEXT): CloseCode.BAD_FRAME,
    int(WSCloseCode.PROTOCOL_ERROR): CloseCode.BAD_FRAME,
}


class Socket(web.WebSocketResponse):
    """aiohttp's WebSocket, with our close codes in place of the library's for what a client did wrong."""

    def __init__(self) -> None:
        super().__init__(
            timeout=_CLOSE_SECONDS,
            protocols=(SUBPROTOCOL,),
            compress=False,
            max_msg_size=_READ_LIMIT,
            decode_text=False,
        )

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        """Close; a library's code is replaced by ours, announced by `closing`."""
        ours = _LIBRARY_CODES.get(code)
        if ours is None:
            return await super().close(code=code, message=message, drain=drain)
        if not self.closed:
            await self.send_frame(frames.closing(ours, "the frame cannot be read", 0), WSMsgType.TEXT)
        return await super().close(code=ours, message=ours.name.encode(), drain=drain)


class WebSocketClient:
    """Queues frames for one socket and writes them in order from a task that lives only while there are some.

    At most 1 MiB waits (answers excepted, which the session bounds); a subscription that meets a full queue is told so.
    """

    __slots__ = (
        "_bytes",
        "_close",
        "_flushed",
        "_heads",
        "_loop",
        "_outbox",
        "_sending_since",
        "_socket",
        "_transport",
        "_waiting",
        "_writer",
    )

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self._socket = socket
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[bytes] = deque()
        self._bytes = 0
        self._heads: dict[tuple[str, str], bytes] = {}
        self._waiting: list[Callable[[], None]] = []
        self._writer: asyncio.Task[None] | None = None
        self._sending_since: float | None = None
        self._close: CloseCode | None = None
        self._flushed: Callable[[], None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether less than 1 MiB waits to be sent."""
        return self._bytes < MAX_OUTBOUND_BYTES

    def send_event(self, sub: str, event: EncodedEvent) -> bool:
        """Queue an event behind the subscription's head."""
        return self._push_headed("event", sub, event.body)

    def send_delta(self, sub: str, delta: EncodedDelta) -> bool:
        """Queue a delta, snapshot or checkpoint."""
        return self._push_headed(delta.kind, sub, delta.body)

    def send(self, frame: bytes) -> bool:
        """Queue an answer or a notice, whatever waits already."""
        if self._close is not None:
            return False
        self._push(frame)
        return True

    def close(self, code: CloseCode, message: str = "", *, retry_after_ms: int = 0, announce: bool = True) -> None:
        """Queue `closing` (unless it was sent already), then close with `code`."""
        if self._close is not None:
            return
        if announce:
            self._push(frames.closing(code, message, retry_after_ms))
        self._close = code
        self._write()

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call back once half of the queue is sent."""
        self._waiting.append(callback)

    async def wait_for_room(self) -> None:
        """Until less than 1 MiB waits: for who reads a client's next request only then."""
        while not self.has_room and self._writer is not None and not self._writer.done():
            room = asyncio.Event()
            self._waiting.append(room.set)
            waiting = self._loop.create_task(room.wait())
            try:
                await asyncio.wait([waiting, self._writer], return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()

    def check_stall(self, now: float) -> None:
        """Cut the connection if one send has not got through for 10 s; `now` on the loop's clock."""
        since = self._sending_since
        if since is not None and now - since >= STALL_SECONDS and self._transport is not None:
            self._sending_since = None
            self._transport.abort()

    def when_flushed(self, callback: Callable[[], None] | None) -> None:
        """Have `callback` called once what `close` queued is sent, and it is time to `shut`."""
        self._flushed = callback

    async def wait_flushed(self) -> None:
        """Until nothing is being sent."""
        if self._writer is not None:
            await asyncio.wait([self._writer])

    async def shut(self) -> None:
        """Let go of everything, and close the socket if that is still to be done, waiting 2 s for the peer to agree.

        Only for the task that reads the socket: aiohttp cuts the connection when another one closes it.
        """
        code = self._close = self._close or CloseCode.NORMAL
        self._outbox.clear()
        self._waiting.clear()
        self._heads.clear()
        self._flushed = None
        if self._writer is not None and not self._writer.done():
            self._writer.cancel()
            await asyncio.wait([self._writer])
        self._sending_since = self._loop.time()
        try:
            await self._socket.close(code=code, message=code.name.encode())
        finally:
            self._sending_since = None

    def _push_headed(self, kind: str, sub: str, body: bytes) -> bool:
        if self._close is not None or not self.has_room:
            return False
        head = self._heads.get((kind, sub))
        if head is None:
            if len(self._heads) >= _MAX_HEADS:
                self._heads.clear()
            head = self._heads[kind, sub] = frames.head(kind, sub)
        self._push(head + body)
        return True

    def _push(self, frame: bytes) -> None:
        self._outbox.append(frame)
        self._bytes += len(frame)
        self._write()

    def _write(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = self._loop.create_task(self._flush())

    async def _flush(self) -> None:
        outbox, socket, clock = self._outbox, self._socket, self._loop.time
        try:
            while outbox:
                frame = outbox.popleft()
                self._sending_since = clock()
                await socket.send_frame(frame, WSMsgType.TEXT)
                self._bytes -= len(frame)
                if self._waiting and self._bytes <= MAX_OUTBOUND_BYTES // 2:
                    self._call_back()
            if self._close is not None and self._flushed is not None:
                self._flushed()
        except ConnectionError:
            # The peer went away; the reading side notices and releases everything.
            outbox.clear()
            self._bytes = 0
        finally:
            self._sending_since = None

    def _call_back(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
