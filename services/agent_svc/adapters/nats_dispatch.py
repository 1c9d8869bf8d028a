"""The work queue of dispatches: a JetStream stream with one shared pull consumer.

A dispatch is acknowledged when it is taken or dropped, since the lease in the database is what gives a conversation to one
worker, and the sweep repeats what was lost. So the stream lives in memory, and losing it loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from agent_svc.domain.log import Dispatch
from agent_svc.interfaces.event_bus import DispatchConsumer
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

STREAM = "HEARTH_RUNS"
CONSUMER = "workers"
_NEXT = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}"
_PULL_EXPIRES_S = 20
_RETRY_S = 1.0
_ACK = b"+ACK"


class DispatchQueue:
    """Keeps one pull request for as many dispatches as the consumer can take."""

    def __init__(self, client: Client) -> None:
        self._nats = client
        self._consumer: DispatchConsumer | None = None
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Deliveries that the pull request under way may still bring, and whether the stream must be looked at again.
        self._expected = 0
        self._stale = True

    def connected(self) -> None:
        """The connection is new: the stream, the consumer and the pull request may be gone."""
        self._stale = True
        self._expected = 0
        self._wake.set()

    async def consume(self, consumer: DispatchConsumer) -> Callable[[], None]:
        """Starts; returns what to call when capacity has grown."""
        self._consumer = consumer
        self._task = asyncio.create_task(self._run(consumer))
        return self._grown

    async def stop(self) -> None:
        """Takes nothing more. What a pull request under way still brings goes back after the acknowledgement time."""
        task, self._task = self._task, None
        await end_task(task)
        self._consumer = None
        if self._subscription is not None and self._nats.is_connected:
            await self._subscription.unsubscribe()

    def _grown(self) -> None:
        if self._expected == 0:
            self._wake.set()

    async def _run(self, consumer: DispatchConsumer) -> None:
        while True:
            try:
                await self._pull(consumer)
                async with asyncio.timeout(_PULL_EXPIRES_S + 1):
                    await self._wake.wait()
            except TimeoutError:
                # The pull request has expired without a word: ask again.
                self._expected = 0
            except (nats.errors.Error, APIError, OSError) as error:
                _log.warning("the work queue does not answer", extra={"error": type(error).__name__})
                self._stale = True
                await asyncio.sleep(_RETRY_S)
            self._wake.clear()

    async def _pull(self, consumer: DispatchConsumer) -> None:
        if not self._nats.is_connected:
            return
        if self._stale:
            await self._ensure()
        wanted = consumer.capacity()
        if self._expected == 0 and wanted > 0:
            self._expected = wanted
            request = f'{{"batch":{wanted},"expires":{_PULL_EXPIRES_S * 1_000_000_000}}}'
            await self._nats.publish(_NEXT, request.encode(), reply=self._inbox)

    async def _ensure(self) -> None:
        if self._subscription is None:
            self._inbox = f"_INBOX.hearth.{uuid.uuid4().hex}"
            self._subscription = await self._nats.subscribe(self._inbox, cb=self._on_message)
        stream = self._nats.jetstream(timeout=3)
        config = StreamConfig(
            name=STREAM,
            subjects=["hearth.run.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.MEMORY,
            discard=DiscardPolicy.OLD,
            max_msgs=1_000_000,
        )
        try:
            await stream.stream_info(STREAM)
        except NotFoundError:
            await stream.add_stream(config)
        await stream.add_consumer(
            STREAM,
            ConsumerConfig(
                durable_name=CONSUMER,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=10,
                max_ack_pending=10_000,
                max_waiting=2_000,
            ),
        )
        self._stale = False

    async def _on_message(self, message: Msg) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        if not message.reply:
            self._on_status(message)
            return
        self._expected = max(0, self._expected - 1)
        await self._nats.publish(message.reply, _ACK)
        try:
            dispatch = Dispatch(uuid.UUID(bytes=message.data), uuid.UUID(message.subject.rpartition(".")[2]))
        except ValueError:
            _log.warning("a dispatch that is none was dropped")
            return
        consumer.offer(dispatch)
        if self._expected == 0:
            self._wake.set()

    def _on_status(self, message: Msg) -> None:
        """408: the request has expired. 503: no such consumer. 409: it is gone or full. Each ends the request."""
        status = (message.headers or {}).get("Status", "")
        if status in ("100", ""):
            return
        if status != "408":
            self._stale = True
        self._expected = 0
        self._wake.set()
