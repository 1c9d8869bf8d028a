"""NATS as the event bus: live frames over core NATS, questions to a run's owner as requests, dispatches over JetStream.

Subjects, all internal to agent_svc:
  hearth.ev.<conversation>   frames of one conversation, for watchers in other processes
  hearth.worker.<worker>     questions about a worker's runs
  hearth.run.<conversation>  dispatches, the work queue (see nats_dispatch)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from agent_svc.adapters.nats_dispatch import DispatchQueue
from agent_svc.domain.frame import CheckpointFrame, DeltaFrame, EventFrame, Frame, SnapshotFrame
from agent_svc.domain.log import Dispatch
from agent_svc.interfaces.event_bus import DeliverFrames, DispatchConsumer, RunOwner
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
_ANSWER_S = 1.0
# NATS takes 1 MiB at most; what is larger is announced and read from the table.
_MAX_BYTES = 900_000
_SNAPSHOT = "snapshot"
_STOP = "stop"

_encode = msgspec.msgpack.Encoder().encode
_decode_frames = msgspec.msgpack.Decoder(
    tuple[str, list[EventFrame | DeltaFrame | SnapshotFrame | CheckpointFrame]]
).decode
_decode_question = msgspec.msgpack.Decoder(tuple[str, UUID]).decode
_decode_snapshot = msgspec.msgpack.Decoder(SnapshotFrame | None).decode


class NatsBus:
    """Implements interfaces.event_bus.EventBus. Connects in the background and again for ever."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._nats = Client()
        self._queue = DispatchQueue(self._nats)
        self._callbacks: list[Callable[[], None]] = []
        self._connecting: asyncio.Task[None] | None = None
        self._owner: tuple[str, RunOwner] | None = None
        self._closed = False

    @property
    def connected(self) -> bool:
        return self._nats.is_connected

    async def open(self) -> None:
        """Begins to connect and waits for it a moment; a NATS that is down is no error."""
        self._connecting = asyncio.create_task(self._connect())
        await asyncio.wait({self._connecting}, timeout=3.0)

    async def close(self) -> None:
        self._closed = True
        await end_task(self._connecting)
        if self._nats.is_connected:
            await self._nats.flush(timeout=1)
        await self._nats.close()

    async def _connect(self) -> None:
        while not self._closed:
            try:
                await self._nats.connect(
                    self._url,
                    name=self._name,
                    no_echo=True,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    connect_timeout=2,
                    error_cb=_on_error,
                    disconnected_cb=_on_disconnect,
                    reconnected_cb=self._on_reconnect,
                )
            except (OSError, nats.errors.Error, TimeoutError) as error:
                _log.warning("NATS does not answer", extra={"error": type(error).__name__})
                await asyncio.sleep(_RETRY_S)
            else:
                await self._ready()
                return

    async def _ready(self) -> None:
        if self._owner is not None:
            await self._subscribe_owner(*self._owner)
        self._queue.connected()
        for callback in self._callbacks:
            callback()

    async def _on_reconnect(self) -> None:
        _log.info("NATS is back")
        self._queue.connected()
        for callback in self._callbacks:
            callback()

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    async def publish_dispatch(self, dispatch: Dispatch) -> None:
        if self._nats.is_connected:
            await self._publish(f"hearth.run.{dispatch.conversation_id}", dispatch.organization_id.bytes)

    async def consume(self, consumer: DispatchConsumer) -> Callable[[], None]:
        return await self._queue.consume(consumer)

    async def stop_consuming(self) -> None:
        await self._queue.stop()

    async def publish_frames(self, conversation_id: UUID, worker: str, frames: Sequence[Frame]) -> None:
        if not self._nats.is_connected:
            return
        payload = _encode((worker, frames))
        if len(payload) > _MAX_BYTES:
            head = max((frame.seq for frame in frames if isinstance(frame, EventFrame)), default=0)
            payload = _encode((worker, [CheckpointFrame(head)]))
        await self._publish(f"hearth.ev.{conversation_id}", payload)

    async def subscribe_frames(self, conversation_id: UUID, deliver: DeliverFrames) -> _FrameSubscription:
        async def on_message(message: Msg) -> None:
            try:
                worker, frames = _decode_frames(message.data)
            except msgspec.DecodeError:
                _log.warning("frames of another version of agent_svc were dropped")
                return
            deliver(worker, frames)

        if not self._nats.is_connected:
            return _FrameSubscription(None)
        try:
            return _FrameSubscription(await self._nats.subscribe(f"hearth.ev.{conversation_id}", cb=on_message))
        except (nats.errors.Error, OSError):
            return _FrameSubscription(None)

    async def serve_owner(self, worker: str, owner: RunOwner) -> None:
        self._owner = (worker, owner)
        if self._nats.is_connected:
            await self._subscribe_owner(worker, owner)

    async def _subscribe_owner(self, worker: str, owner: RunOwner) -> None:
        async def on_message(message: Msg) -> None:
            question, run_id = _decode_question(message.data)
            if question == _STOP:
                owner.stop(run_id)
                await message.respond(b"")
            else:
                await message.respond(_encode(owner.snapshot(run_id)))

        await self._nats.subscribe(f"hearth.worker.{worker}", cb=on_message)

    async def ask_snapshot(self, worker: str, run_id: UUID) -> SnapshotFrame | None:
        answer = await self._ask(worker, _SNAPSHOT, run_id)
        return None if answer is None else _decode_snapshot(answer)

    async def ask_stop(self, worker: str, run_id: UUID) -> bool:
        return await self._ask(worker, _STOP, run_id) is not None

    async def _ask(self, worker: str, question: str, run_id: UUID) -> bytes | None:
        if not self._nats.is_connected:
            return None
        try:
            answer = await self._nats.request(f"hearth.worker.{worker}", _encode((question, run_id)), timeout=_ANSWER_S)
        except (nats.errors.Error, TimeoutError, OSError):
            return None
        return answer.data

    async def _publish(self, subject: str, payload: bytes) -> None:
        try:
            await self._nats.publish(subject, payload)
        except (nats.errors.Error, OSError) as error:
            _log.warning("a message for NATS was dropped", extra={"error": type(error).__name__})


class _FrameSubscription:
    """None inside: NATS was down; the hub subscribes again when it is back."""

    def __init__(self, subscription: Subscription | None) -> None:
        self._subscription = subscription

    @property
    def live(self) -> bool:
        return self._subscription is not None

    async def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        try:
            await subscription.unsubscribe()
        except (nats.errors.Error, OSError):
            _log.debug("unsubscribing failed", exc_info=True)


async def _on_error(error: Exception) -> None:
    _log.debug("NATS: %s", type(error).__name__)


async def _on_disconnect(*_: Any) -> None:
    _log.warning("NATS is gone; conversations go on by polling")
