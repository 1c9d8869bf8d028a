"""RunService.Watch: many subscriptions over one stream, each under its own token, written by one writer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from agent_svc.managers.watch_manager import Following, WatchManager
from agent_svc.servicers.frames import FrameWriter
from chassis import ids
from chassis.errors import DomainError, InvalidArgument, OutOfRange, ResourceExhausted
from chassis.identity import Identity, credential_revoked, scope_insufficient, token_expired
from chassis.revocations import CLOCK_LEEWAY_S, Revocations
from chassis.scopes import covers
from hearth.agent.v1 import run_service_pb2 as pb

_log = logging.getLogger(__name__)

TokenCheck = Callable[[str], Awaitable[Identity]]

MAX_SUBSCRIPTIONS = 10_000
# What the door asks of a stream for one topic.
_SCOPE = "agent.read"
# Items that wait for the stream. A subscription waits while there is no room, and its feed drops deltas meanwhile.
_QUEUE_LIMIT = 2_000
_BATCH_LIMIT = 500

_CODES = {
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "OUT_OF_RANGE": 11,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}


class _Subscription:
    """One subscription of the stream: its task, and the identity that it is read under."""

    def __init__(self, number: int, identity: Identity | None) -> None:
        self.number = number
        self.identity = identity
        self.renewed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class WatchStream:
    """The state of one stream. Use `responses` once."""

    def __init__(self, watching: WatchManager, check: TokenCheck, revocations: Revocations, caller: Identity) -> None:
        self._watching = watching
        self._check = check
        self._revocations = revocations
        self._caller = caller
        self._subscriptions: dict[int, _Subscription] = {}
        self._out: asyncio.Queue[pb.WatchItem | None] = asyncio.Queue(_QUEUE_LIMIT)
        self._failure: DomainError | None = None

    async def responses(self, requests: AsyncIterator[pb.WatchRequest]) -> AsyncGenerator[pb.WatchResponse, None]:
        """Batches of what is ready, until the caller leaves. Raises what the requests raise."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while True:
                item = await self._out.get()
                if item is None:
                    break
                items = [item]
                while len(items) < _BATCH_LIMIT and not self._out.empty():
                    item = self._out.get_nowait()
                    if item is None:
                        break
                    items.append(item)
                yield pb.WatchResponse(items=items)
                if item is None:
                    break
            if self._failure is not None:
                raise self._failure
            await reader
        finally:
            reader.cancel()
            for subscription in list(self._subscriptions.values()):
                if subscription.task is not None:
                    subscription.task.cancel()

    async def _read(self, requests: AsyncIterator[pb.WatchRequest]) -> None:
        """Instructions, in order. A caller that has closed its side still gets what it subscribed to."""
        try:
            async for request in requests:
                match request.WhichOneof("kind"):
                    case "subscribe":
                        self._subscribe(request.subscribe)
                    case "unsubscribe":
                        await self._unsubscribe(request.unsubscribe.subscription)
                    case "renew":
                        await self._renew(request.renew)
                    case _:
                        raise InvalidArgument("an instruction is missing", reason="VALIDATION_FAILED")
            tasks = [one.task for one in self._subscriptions.values() if one.task is not None]
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await self._out.put(None)

    def _subscribe(self, request: pb.WatchSubscribe) -> None:
        number = request.subscription
        if number in self._subscriptions:
            raise InvalidArgument(f"subscription {number} is in use", reason="VALIDATION_FAILED")
        subscription = self._subscriptions[number] = _Subscription(number, None if request.token else self._caller)
        subscription.task = asyncio.create_task(self._follow(subscription, request))

    async def _unsubscribe(self, number: int) -> None:
        subscription = self._subscriptions.get(number)
        if subscription is None or subscription.task is None:
            return
        subscription.task.cancel()
        await asyncio.wait({subscription.task})
        await self._out.put(pb.WatchItem(subscription=number, ended=pb.WatchEnded()))

    async def _renew(self, request: pb.WatchRenew) -> None:
        subscription = self._subscriptions.get(request.subscription)
        if subscription is None:
            return
        try:
            identity = await self._identify(request.token)
        except DomainError:
            # The token that it has stays good as long as it is.
            _log.info("a subscription was not renewed: its new token is refused")
            return
        known = subscription.identity
        if known is None or (known.organization_id, known.subject) == (identity.organization_id, identity.subject):
            subscription.identity = identity
            subscription.renewed.set()

    async def _follow(self, subscription: _Subscription, request: pb.WatchSubscribe) -> None:
        number = subscription.number
        try:
            if len(self._subscriptions) > MAX_SUBSCRIPTIONS:
                raise ResourceExhausted("too many subscriptions on one stream", reason="QUOTA_EXCEEDED")
            if request.token:
                subscription.identity = await self._identify(request.token)
            assert subscription.identity is not None
            async with self._open(subscription.identity, request) as following:
                await self._out.put(_subscribed(number, following))
                await self._deliver(subscription, following)
            ended = pb.WatchEnded()
        except OutOfRange as error:
            await self._out.put(_not_resumed(number, error))
            ended = _ended(error)
        except DomainError as error:
            if error.reason == "SHUTTING_DOWN":
                # Not this subscription alone: the whole stream must go elsewhere.
                self._failure = error
                await self._out.put(None)
                return
            ended = _ended(error)
        except Exception:
            _log.exception("a subscription failed")
            ended = pb.WatchEnded(code=_CODES["INTERNAL"], reason="INTERNAL", message="internal error")
        finally:
            self._subscriptions.pop(number, None)
        await self._out.put(pb.WatchItem(subscription=number, ended=ended))

    async def _identify(self, token: str) -> Identity:
        """Whose token this is, who must be allowed here what the door allows for a stream of their own."""
        identity = await self._check(token)
        if not covers(identity.scopes, _SCOPE):
            raise scope_insufficient(_SCOPE)
        return identity

    def _open(self, identity: Identity, request: pb.WatchSubscribe) -> AbstractAsyncContextManager[Following]:
        after_seq = request.after_seq if request.HasField("after_seq") else None
        if request.WhichOneof("topic") == "run_id":
            return self._watching.run(identity.organization_id, ids.decode("run", request.run_id), after_seq)
        conversation_id = ids.decode("conv", request.conversation_id)
        return self._watching.conversation(identity.organization_id, conversation_id, after_seq)

    async def _deliver(self, subscription: _Subscription, following: Following) -> None:
        """Raises Unauthenticated when the token is revoked, or has expired and no other has come."""
        identity = subscription.identity
        assert identity is not None
        writer = FrameWriter(identity.organization_id, following.conversation_id)
        watchdog: asyncio.Task[DomainError] | None = None
        # The stream's own identity is the edge's to watch.
        if identity is not self._caller:
            watchdog = asyncio.create_task(_end_of_token(subscription, self._revocations))
        batches = asyncio.create_task(self._pump(subscription.number, following, writer))
        waiting = {batches} if watchdog is None else {batches, watchdog}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if watchdog is not None and watchdog.done():
                raise watchdog.result()
            await batches
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.wait(waiting)

    async def _pump(self, number: int, following: Following, writer: FrameWriter) -> None:
        async for batch in following.batches:
            for frame in batch:
                item = pb.WatchItem(subscription=number)
                writer.fill(frame, item.frame)
                await self._out.put(item)


async def _end_of_token(subscription: _Subscription, revocations: Revocations) -> DomainError:
    """Returns when the subscription's token is good no more, with what is to be said about it."""
    while True:
        identity = subscription.identity
        assert identity is not None
        subscription.renewed.clear()
        if revocations.is_void(identity):
            return credential_revoked()
        left = identity.expires_at + CLOCK_LEEWAY_S - time.time()
        if left <= 0:
            return token_expired()
        forget = revocations.when_void(identity, subscription.renewed.set)
        try:
            async with asyncio.timeout(left):
                await subscription.renewed.wait()
        except TimeoutError:
            continue
        finally:
            forget()


def _subscribed(number: int, following: Following) -> pb.WatchItem:
    subscribed = pb.WatchSubscribed(
        head_seq=following.head.head_seq,
        first_seq=1,
        conversation_id=ids.encode("conv", following.conversation_id),
        resumed=True,
    )
    return pb.WatchItem(subscription=number, subscribed=subscribed)


def _not_resumed(number: int, error: OutOfRange) -> pb.WatchItem:
    head_seq = int(error.metadata.get("head_seq", "0"))
    return pb.WatchItem(subscription=number, subscribed=pb.WatchSubscribed(head_seq=head_seq, first_seq=1))


def _ended(error: DomainError) -> pb.WatchEnded:
    return pb.WatchEnded(code=_CODES.get(error.code, _CODES["INTERNAL"]), reason=error.reason, message=error.message)
