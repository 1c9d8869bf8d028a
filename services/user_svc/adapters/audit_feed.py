"""Takes the other services' audit records from the stream into the chain.

A batch is acknowledged, and its service told, after the commit. The stream is only a way: it keeps what was published for two hours, and may lose it; each
service sends again what it has no receipt for.
"""

import asyncio
import logging

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import Error as StreamError
from nats.js.errors import NotFoundError

from chassis.audit import AuditRecord
from chassis.audit.stream import RECEIPTS, STREAM, SUBJECTS, decode, encode_receipt
from chassis.errors import DomainError
from chassis.nats_connection import NatsConnection
from chassis.tasks import end_task
from user_svc.interfaces.audit_log import AuditChain

_log = logging.getLogger(__name__)

_CONSUMER = "chain"
_BATCHES = 8
_WAIT_S = 20.0
_RETRY_S = 1.0
_ACK_WAIT_S = 30.0
# Longer than a service waits before it sends again.
_MAX_AGE_S = 7200.0
_MAX_BYTES = 1 << 30

_FAILURES = (nats.errors.Error, StreamError, OSError)


class AuditFeed:
    """Background work; replicas share one durable consumer."""

    def __init__(self, connection: NatsConnection, chain: AuditChain) -> None:
        self._connection = connection
        self._chain = chain
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins."""
        self._connection.on_connect(self._on_connect)
        if self._connection.connected:
            self._connected.set()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends; what was taken and not acknowledged goes to another replica, or is taken again."""
        task, self._task = self._task, None
        if task is not None:
            await end_task(task)

    async def _on_connect(self) -> None:
        self._connected.set()

    async def _run(self) -> None:
        while True:
            await self._connected.wait()
            try:
                await self._take_all(await self._subscribe())
            except _FAILURES as error:
                _log.warning("the audit stream does not answer", extra={"error": type(error).__name__})
            except Exception:
                _log.exception("audit records wait")
            await asyncio.sleep(_RETRY_S)

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        """Makes what is missing: after a loss of all state that is everything."""
        stream = self._connection.client.jetstream(timeout=3)
        config = StreamConfig(
            name=STREAM,
            subjects=[f"{SUBJECTS}*"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            max_age=_MAX_AGE_S,
            max_bytes=_MAX_BYTES,
        )
        try:
            await stream.stream_info(STREAM)
        except NotFoundError:
            await stream.add_stream(config)
        await stream.add_consumer(
            STREAM,
            ConsumerConfig(durable_name=_CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=_ACK_WAIT_S),
        )
        return await stream.pull_subscribe_bind(consumer=_CONSUMER, stream=STREAM)

    async def _take_all(self, subscription: JetStreamContext.PullSubscription) -> None:
        """Until something fails."""
        try:
            while True:
                try:
                    await self._take(await subscription.fetch(_BATCHES, timeout=_WAIT_S))
                except TimeoutError:
                    continue
        finally:
            await subscription.unsubscribe()

    async def _take(self, messages: list[Msg]) -> None:
        read: list[tuple[Msg, list[AuditRecord]]] = []
        for message in messages:
            try:
                read.append((message, decode(message.data)))
            except ValueError:
                _log.error("a message in the audit stream is no batch of records", extra={"subject": message.subject})
                await message.term()
        try:
            there = await self._chain.append([record for _, records in read for record in records])
        except DomainError as error:
            _log.warning("audit records wait in the stream", extra={"reason": error.reason})
            for message, _ in read:
                await message.nak(delay=_RETRY_S)
            return
        for message, records in read:
            # What is not there, its service sends again.
            await message.ack()
            receipt = encode_receipt([record.id for record in records if record.id in there])
            await self._connection.client.publish(RECEIPTS + message.subject.removeprefix(SUBJECTS), receipt)
