"""The logs of agent_svc: many watches over a few `Watch` streams, opened again and resumed when a stream breaks."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import grpc

from chassis.errors import BY_CODE, DomainError, Internal
from chassis.identity import Identity, use
from chassis.tasks import end_task
from gateway.encoder import FrameEncoder
from gateway.interfaces import Topic, WatchListener
from hearth.agent.v1 import run_service_pb2, run_service_pb2_grpc

_log = logging.getLogger(__name__)

STREAMS: Final = 2
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_CODE_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_LASTING: Final = frozenset({"NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "UNIMPLEMENTED"})

# The gateway's own identity, which opens a stream; each watch on it brings its user's token.
Credential = Callable[[], Awaitable[Identity]]


class WatchStreams:
    """A WatchSource over `RunService.Watch`. A conversation always travels on the same stream, so it stays in order."""

    def __init__(
        self, channel: grpc.aio.Channel, credential: Credential, encoder: FrameEncoder, *, streams: int = STREAMS
    ) -> None:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        self._numbers = itertools.count(1)
        self._streams = [_Stream(stub, credential, encoder) for _ in range(streams)]

    @property
    def count(self) -> int:
        """How many watches are open."""
        return sum(stream.count for stream in self._streams)

    def open(self, topic: Topic, listener: WatchListener) -> int:
        """Start following after `listener.resume_after()`."""
        count = len(self._streams)
        # The number says on which stream the watch is.
        number = next(self._numbers) * count + zlib.crc32(topic.id.encode()) % count
        self._streams[number % count].open(number, _Watch(topic, listener))
        return number

    def close(self, watch: int) -> None:
        """Stop following; the listener hears nothing more."""
        self._streams[watch % len(self._streams)].close(watch)

    def renew(self, watch: int) -> None:
        """Go on under the listener's present token."""
        self._streams[watch % len(self._streams)].renew(watch)

    async def stop(self) -> None:
        """Close all streams."""
        for stream in self._streams:
            await stream.stop()


class _Watch:
    """What one listener follows. `wire` is its number on the present stream: a new one for each subscribing."""

    __slots__ = ("listener", "retry", "topic", "wire")

    def __init__(self, topic: Topic, listener: WatchListener) -> None:
        self.topic = topic
        self.listener = listener
        self.wire = 0
        self.retry: asyncio.TimerHandle | None = None


class _Stream:
    """One `Watch` call, kept up while anybody follows anything on it."""

    def __init__(
        self, stub: run_service_pb2_grpc.RunServiceAsyncStub, credential: Credential, encoder: FrameEncoder
    ) -> None:
        self._stub = stub
        self._credential = credential
        self._encoder = encoder
        self._watches: dict[int, _Watch] = {}
        self._by_wire: dict[int, tuple[int, _Watch]] = {}
        self._wires = itertools.count(1)
        self._requests: asyncio.Queue[run_service_pb2.WatchRequest] | None = None
        self._task: asyncio.Task[None] | None = None
        self._pause_s = _FIRST_PAUSE_S

    @property
    def count(self) -> int:
        return max(len(self._watches), len(self._by_wire))

    def open(self, number: int, watch: _Watch) -> None:
        self._watches[number] = watch
        if self._requests is not None:
            self._subscribe(number, watch, self._requests)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def close(self, number: int) -> None:
        watch = self._watches.pop(number, None)
        if watch is None:
            return
        if watch.retry is not None:
            watch.retry.cancel()
        if self._by_wire.pop(watch.wire, None) is not None and self._requests is not None:
            unsubscribe = run_service_pb2.WatchUnsubscribe(subscription=watch.wire)
            self._requests.put_nowait(run_service_pb2.WatchRequest(unsubscribe=unsubscribe))

    def renew(self, number: int) -> None:
        watch = self._watches.get(number)
        if watch is not None and watch.wire in self._by_wire and self._requests is not None:
            renew = run_service_pb2.WatchRenew(subscription=watch.wire, token=watch.listener.identity().token)
            self._requests.put_nowait(run_service_pb2.WatchRequest(renew=renew))

    async def stop(self) -> None:
        await end_task(self._task)

    async def _run(self) -> None:
        """Until nobody follows anything: hold the stream; when it breaks, wait and open it again."""
        while self._watches:
            try:
                await self._hold()
            except (grpc.aio.AioRpcError, DomainError) as error:
                _log.warning("the stream to agent_svc broke", extra={"error": _describe(error)})
            except Exception:
                _log.exception("the stream to agent_svc broke unexpectedly")
            finally:
                self._requests = None
                self._by_wire.clear()
            await asyncio.sleep(self._pause_s * (0.5 + secrets.randbelow(500) / 1000))
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    async def _hold(self) -> None:
        identity = await self._credential()
        requests = self._requests = asyncio.Queue()
        for number, watch in list(self._watches.items()):
            self._subscribe(number, watch, requests)
        with use(identity):
            call = self._stub.Watch(_each(requests))
        try:
            async for response in call:
                self._pause_s = _FIRST_PAUSE_S
                for item in response.items:
                    self._take(item)
        finally:
            call.cancel()

    def _subscribe(self, number: int, watch: _Watch, requests: asyncio.Queue[run_service_pb2.WatchRequest]) -> None:
        watch.wire = next(self._wires)
        self._by_wire[watch.wire] = (number, watch)
        subscribe = run_service_pb2.WatchSubscribe(
            subscription=watch.wire,
            after_seq=watch.listener.resume_after(),
            token=watch.listener.identity().token,
        )
        if watch.topic.kind == "run":
            subscribe.run_id = watch.topic.id
        else:
            subscribe.conversation_id = watch.topic.id
        requests.put_nowait(run_service_pb2.WatchRequest(subscribe=subscribe))

    def _take(self, item: run_service_pb2.WatchItem) -> None:
        number, watch = self._by_wire.get(item.subscription, (0, None))
        if watch is None:
            return
        try:
            self._dispatch(item, number, watch)
        except Exception:
            _log.exception("a frame could not be handed on")
            self.close(number)
            watch.listener.ended("failed", Internal("internal error", reason="INTERNAL"))

    def _dispatch(self, item: run_service_pb2.WatchItem, number: int, watch: _Watch) -> None:
        kind = item.WhichOneof("kind")
        if kind == "frame":
            frame = item.frame
            if frame.WhichOneof("kind") == "event":
                watch.listener.event(self._encoder.event(frame.event))
            else:
                for delta in self._encoder.deltas(frame):
                    watch.listener.delta(delta)
        elif kind == "subscribed":
            stands = item.subscribed
            if not stands.resumed:
                self._drop(number, watch)
            watch.listener.opened(stands.resumed, stands.head_seq, stands.first_seq)
        elif kind == "ended":
            self._ended(item.ended, number, watch)

    def _ended(self, ended: run_service_pb2.WatchEnded, number: int, watch: _Watch) -> None:
        code = _CODE_NAMES.get(ended.code, "INTERNAL")
        if code not in _LASTING and code not in {"OK", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"}:
            # A passing fault of the other side: the subscriber only notices a pause.
            self._by_wire.pop(watch.wire, None)
            watch.retry = asyncio.get_running_loop().call_later(_LONGEST_PAUSE_S / 2, self._again, number, watch)
            return
        self._drop(number, watch)
        if code == "OK":
            watch.listener.ended("complete", None)
            return
        error = BY_CODE.get(code, Internal)(ended.message, reason=ended.reason or "INTERNAL")
        watch.listener.ended(_reason(code), error)

    def _again(self, number: int, watch: _Watch) -> None:
        watch.retry = None
        if self._watches.get(number) is watch and self._requests is not None and watch.wire not in self._by_wire:
            self._subscribe(number, watch, self._requests)

    def _drop(self, number: int, watch: _Watch) -> None:
        self._watches.pop(number, None)
        self._by_wire.pop(watch.wire, None)


async def _each(
    requests: asyncio.Queue[run_service_pb2.WatchRequest],
) -> AsyncIterator[run_service_pb2.WatchRequest]:
    while True:
        yield await requests.get()


def _reason(code: str) -> str:
    """The word of the socket protocol for why a subscription is over."""
    return {
        "NOT_FOUND": "not_found",
        "UNAUTHENTICATED": "revoked",
        "PERMISSION_DENIED": "revoked",
        "OUT_OF_RANGE": "log_truncated",
        "RESOURCE_EXHAUSTED": "lagging",
    }.get(code, "failed")


def _describe(error: grpc.aio.AioRpcError | DomainError) -> str:
    if isinstance(error, DomainError):
        return f"{error.code}: {error.message}"
    return f"{error.code().name}: {error.details()}"
