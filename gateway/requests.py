"""The requests of one open session: calls under way, subscriptions that wait for their answer."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chassis.errors import (
    DomainError,
    FailedPrecondition,
    Internal,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    Unavailable,
)
from chassis.identity import Identity
from chassis.revocations import Revocations
from gateway import frames, protocol
from gateway.hub import Hub, parse_topic
from gateway.interfaces import Caller, ClientInterface, Verifier

_log = logging.getLogger(__name__)

SUBSCRIBE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Services:
    """What every session of a gateway shares; `clock` is monotonic, `wall` the Unix clock, both in seconds."""

    verifier: Verifier
    revocations: Revocations
    caller: Caller
    hub: Hub
    clock: Callable[[], float]
    wall: Callable[[], float]


class Requests:
    """Answers each request once. `identity` says who the client is now; it may change its token in between."""

    __slots__ = ("_busy", "_client", "_identity", "_pending", "_services", "_tasks")

    def __init__(self, client: ClientInterface, services: Services, identity: Callable[[], Identity]) -> None:
        self._client = client
        self._services = services
        self._identity = identity
        self._busy: set[int] = set()
        self._pending: dict[str, tuple[int, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def is_busy(self, number: int) -> bool:
        """Whether a request with this id is still to be answered."""
        return number in self._busy

    def call(self, message: protocol.Call) -> None:
        """Call in the background; the answer comes when it comes."""
        if len(self._tasks) >= protocol.MAX_CALLS:
            limit = f"at most {protocol.MAX_CALLS} calls at a time"
            self._fail(message.id, ResourceExhausted(limit, reason="RATE_LIMITED", retry_after_s=0.1))
            return
        self._busy.add(message.id)
        task = asyncio.create_task(self._answer(message, self._identity()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: protocol.Call, identity: Identity) -> None:
        try:
            encoded = await self._services.caller.call(
                identity,
                message.method,
                bytes(message.params),
                request_id=message.request_id,
                timeout=message.timeout_ms / 1000,
            )
            frame = frames.result(message.id, encoded)
            if len(frame) > protocol.MAX_OUTBOUND_BYTES:
                too_large = "the answer does not fit one frame: ask for less"
                frame = frames.error(message.id, OutOfRange(too_large, reason="RESULT_TOO_LARGE"))
        except DomainError as error:
            frame = frames.error(message.id, error)
        except Exception:
            error_id = secrets.token_hex(8)
            _log.exception("a call failed unexpectedly", extra={"error_id": error_id, "method": message.method})
            internal = Internal("internal error", reason="INTERNAL", metadata={"error_id": error_id})
            frame = frames.error(message.id, internal)
        finally:
            self._busy.discard(message.id)
        self._client.send(frame)

    def subscribe(self, message: protocol.Subscribe) -> None:
        """Follow a topic; answered when the watch stands or fails, or after 10 s."""
        self._busy.add(message.id)
        number, name = message.id, message.sub

        def opened(resumed: bool, head_seq: int, first_seq: int) -> None:
            self._settle(number, name)
            fields = {"resumed": resumed, "head_seq": head_seq, "first_seq": first_seq}
            self._client.send(frames.ok(number, fields))

        def failed(error: DomainError) -> None:
            self._subscription_failed(number, name, error)

        try:
            topic = parse_topic(message.topic)
            self._services.hub.subscribe(
                self._client,
                name=name,
                topic=topic,
                after_seq=message.after_seq,
                identity=self._identity,
                on_opened=opened,
                on_failed=failed,
            )
        except DomainError as error:
            self._busy.discard(number)
            self._fail(number, error)
            return
        if number in self._busy:
            self._pending[name] = (number, self._services.clock())

    def unsubscribe(self, message: protocol.Unsubscribe) -> None:
        """Stop following."""
        if not self._services.hub.unsubscribe(self._client, message.sub):
            text = "no subscription of this name"
            missing = NotFound(text, reason="RESOURCE_NOT_FOUND", metadata={"sub": message.sub})
            self._fail(message.id, missing)
            return
        pending = self._pending.get(message.sub)
        if pending is not None:
            cancelled = FailedPrecondition("unsubscribed before it was open", reason="VALIDATION_FAILED")
            self._subscription_failed(pending[0], message.sub, cancelled)
        self._client.send(frames.ok(message.id))

    def _subscription_failed(self, number: int, name: str, error: DomainError) -> None:
        self._settle(number, name)
        self._fail(number, error)

    def _settle(self, number: int, name: str) -> None:
        self._pending.pop(name, None)
        self._busy.discard(number)

    def tick(self, now: float) -> None:
        """Give up on subscriptions that have waited for 10 s."""
        for name, (number, since) in list(self._pending.items()):
            if now - since >= SUBSCRIBE_SECONDS:
                self._services.hub.unsubscribe(self._client, name)
                text = "the log cannot be reached now"
                error = Unavailable(text, reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0)
                self._subscription_failed(number, name, error)

    async def finish(self, seconds: float) -> None:
        """Wait for the calls under way, at most so long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def cancel(self) -> None:
        """Stop waiting for everything."""
        self._pending.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _fail(self, number: int, error: DomainError) -> None:
        self._client.send(frames.error(number, error))
