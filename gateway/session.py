"""One client's session from the first message to the last: a state machine that knows no transport."""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

from chassis.errors import (
    DomainError,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from chassis.identity import Identity
from gateway import frames, protocol
from gateway.hub import Hub, parse_topic
from gateway.interfaces import Caller, ClientInterface, Verifier
from gateway.protocol import CloseCode

_log = logging.getLogger(__name__)

SUBSCRIBE_SECONDS: Final = 10.0
MAX_FRAMES_PER_TICK: Final = 5000
_DRAIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Services:
    """What every session of a gateway shares; `clock` is monotonic, `wall` the Unix clock, both in seconds."""

    verifier: Verifier
    caller: Caller
    hub: Hub
    clock: Callable[[], float]
    wall: Callable[[], float]


class Session:
    """Takes frames and the passing of time, answers through a ClientInterface."""

    __slots__ = (
        "_busy",
        "_client",
        "_frames",
        "_heard_at",
        "_identity",
        "_notified",
        "_opened_at",
        "_over",
        "_pending",
        "_pinged",
        "_services",
        "_tasks",
        "id",
    )

    def __init__(self, client: ClientInterface, services: Services) -> None:
        self.id = secrets.token_hex(8)
        self._client = client
        self._services = services
        self._identity: Identity | None = None
        self._opened_at = self._heard_at = services.clock()
        self._frames = 0
        self._pinged = False
        self._notified = False
        self._over = False
        self._busy: set[int] = set()
        self._pending: dict[str, tuple[int, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open_with(self, token: str, number: int | None = None) -> None:
        """Authenticate and send `welcome`, or close."""
        try:
            identity = await self._services.verifier(token)
        except DomainError as error:
            self._refuse(error)
            return
        if not self._over:
            self.accept(identity, number)

    def accept(self, identity: Identity, number: int | None = None) -> None:
        """Open the session for somebody whose token is verified already."""
        self._identity = identity
        self._client.send(frames.welcome(number, self.id, _rfc3339(identity.expires_at)))

    async def receive(self, data: bytes) -> None:
        """Handle one frame; returns when the next one may be read."""
        if self._over:
            return
        self._heard_at = self._services.clock()
        self._pinged = False
        self._frames += 1
        if self._frames > MAX_FRAMES_PER_TICK:
            self.close(CloseCode.TOO_MANY, f"more than {MAX_FRAMES_PER_TICK} frames a second")
            return
        if len(data) > protocol.MAX_INBOUND_BYTES:
            self.close(CloseCode.TOO_LARGE, f"a frame has at most {protocol.MAX_INBOUND_BYTES} bytes")
            return
        message = protocol.parse(data)
        if isinstance(message, protocol.BadFrame):
            self.close(CloseCode.BAD_FRAME, message.message)
        elif self._identity is None:
            await self._greet(message)
        elif isinstance(message, protocol.BadMessage):
            self._reject(message)
        else:
            await self._handle(message, self._identity)

    def tick(self, now: float) -> None:
        """Once a second: deadlines of the opening, the token, the peer and pending subscriptions."""
        self._frames = 0
        if self._over:
            return
        if self._identity is None:
            if now - self._opened_at >= protocol.HELLO_SECONDS:
                self.close(CloseCode.HELLO_TIMEOUT, f"no hello within {protocol.HELLO_SECONDS:.0f} s")
            return
        self._check_token(self._identity)
        self._check_peer(now)
        for name, (number, since) in list(self._pending.items()):
            if now - since >= SUBSCRIBE_SECONDS:
                self._services.hub.unsubscribe(self._client, name)
                self._subscription_failed(
                    number,
                    name,
                    Unavailable("the log cannot be reached now", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0),
                )

    def close(self, code: CloseCode, message: str = "", *, retry_after_ms: int = 0) -> None:
        """Close the client and take nothing more from it."""
        if not self._over:
            self._over = True
            self._services.hub.release(self._client)
            self._client.close(code, message, retry_after_ms=retry_after_ms)

    async def drain(self, retry_after_ms: int) -> None:
        """The server goes away: answer what is under way (at most 5 s), then close; the notice is sent at once."""
        if self._over:
            return
        self._over = True
        self._services.hub.release(self._client)
        self._client.send(frames.closing(CloseCode.DRAINING, "the server is shutting down", retry_after_ms))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_DRAIN_SECONDS)
        self._client.close(CloseCode.DRAINING, announce=False)

    async def release(self) -> None:
        """The client is gone: nothing of it stays."""
        self._over = True
        self._services.hub.release(self._client)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # Opening and credentials.

    async def _greet(self, message: protocol.Inbound | protocol.BadMessage) -> None:
        if isinstance(message, protocol.Hello):
            await self.open_with(message.token, message.id)
        elif isinstance(message, protocol.BadMessage) and message.type == "hello":
            self.close(CloseCode.BAD_FRAME, message.message)
        else:
            self.close(CloseCode.UNAUTHENTICATED, "the first message must be hello")

    async def _refresh(self, message: protocol.Auth, present: Identity) -> None:
        try:
            fresh = await self._services.verifier(message.token)
        except DomainError as error:
            self._fail(message.id, error)
            return
        if (fresh.organization_id, fresh.subject) != (present.organization_id, present.subject):
            self.close(CloseCode.FORBIDDEN, "the token stands for somebody else")
            return
        self._identity = fresh
        self._notified = False
        self._client.send(frames.ok(message.id, {"token_expires": _rfc3339(fresh.expires_at)}))
        self._services.hub.renew(self._client)

    def _refuse(self, error: DomainError) -> None:
        if error.code == "UNAUTHENTICATED":
            self.close(CloseCode.UNAUTHENTICATED, f"{error.reason}: {error.message}")
        elif error.code == "PERMISSION_DENIED":
            self.close(CloseCode.FORBIDDEN, f"{error.reason}: {error.message}")
        else:
            self.close(CloseCode.INTERNAL, "tokens cannot be verified now")

    def _check_token(self, identity: Identity) -> None:
        left = identity.expires_at - self._services.wall()
        if left <= 0:
            self.close(CloseCode.UNAUTHENTICATED, "TOKEN_EXPIRED: the token has expired")
        elif left <= protocol.AUTH_NOTICE_SECONDS and not self._notified:
            self._notified = True
            self._client.send(frames.auth_expiring(_rfc3339(identity.expires_at)))

    def _check_peer(self, now: float) -> None:
        silence = now - self._heard_at
        if silence >= 2 * protocol.PING_SECONDS:
            self.close(CloseCode.PEER_SILENT, "nothing heard, not even a pong")
        elif silence >= protocol.PING_SECONDS and not self._pinged:
            self._pinged = True
            self._client.send(frames.PING)

    # Messages of an open session.

    async def _handle(self, message: protocol.Inbound, identity: Identity) -> None:
        match message:
            case protocol.Ack():
                self._services.hub.ack(self._client, message.sub, message.seq)
            case protocol.Pong():
                pass
            case protocol.Ping():
                self._client.send(frames.PONG)
            case protocol.Call():
                self._call(message, identity)
            case protocol.Subscribe():
                self._subscribe(message)
            case protocol.Unsubscribe():
                self._unsubscribe(message)
            case protocol.Auth():
                await self._refresh(message, identity)
            case protocol.Hello():
                text = "the session is open; send auth to refresh the token"
                self._fail(message.id, FailedPrecondition(text, reason="VALIDATION_FAILED"))

    def _reject(self, message: protocol.BadMessage) -> None:
        error = InvalidArgument(message.message, reason=message.reason, metadata={"type": message.type})
        self._fail(message.id, error)

    def _call(self, message: protocol.Call, identity: Identity) -> None:
        if not self._begin(message.id):
            return
        if len(self._tasks) >= protocol.MAX_CALLS:
            self._busy.discard(message.id)
            limit = f"at most {protocol.MAX_CALLS} calls at a time"
            self._fail(message.id, ResourceExhausted(limit, reason="RATE_LIMITED", retry_after_s=0.1))
            return
        self._spawn(self._answer(message, identity))

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

    def _subscribe(self, message: protocol.Subscribe) -> None:
        if not self._begin(message.id):
            return
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
                identity=self._present,
                on_opened=opened,
                on_failed=failed,
            )
        except DomainError as error:
            self._busy.discard(number)
            self._fail(number, error)
            return
        if number in self._busy:
            self._pending[name] = (number, self._services.clock())

    def _unsubscribe(self, message: protocol.Unsubscribe) -> None:
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

    def _begin(self, number: int) -> bool:
        if number in self._busy:
            self.close(CloseCode.BAD_FRAME, f"id {number} is still in use")
            return False
        self._busy.add(number)
        return True

    def _present(self) -> Identity:
        if self._identity is None:
            raise Unauthenticated("the session is not open", reason="TOKEN_MISSING")
        return self._identity

    def _fail(self, number: int | None, error: DomainError) -> None:
        self._client.send(frames.error(number, error))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _rfc3339(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
