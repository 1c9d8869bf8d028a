"""One client's session from the first message to the last: a state machine that knows no transport."""

from __future__ import annotations

import datetime
import secrets
from typing import Final

from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, Unauthenticated
from chassis.identity import Identity, credential_revoked
from gateway import frames, protocol
from gateway.interfaces import ClientInterface
from gateway.protocol import CloseCode
from gateway.requests import Requests, Services

MAX_FRAMES_PER_TICK: Final = 5000
_DRAIN_SECONDS: Final = 5.0


class Session:
    """Takes frames and the passing of time, answers through a ClientInterface."""

    __slots__ = (
        "_client",
        "_frames",
        "_heard_at",
        "_identity",
        "_notified",
        "_opened_at",
        "_over",
        "_pinged_at",
        "_requests",
        "_services",
        "id",
    )

    def __init__(self, client: ClientInterface, services: Services) -> None:
        self.id = secrets.token_hex(8)
        self._client = client
        self._services = services
        self._identity: Identity | None = None
        self._opened_at = self._heard_at = services.clock()
        self._frames = 0
        self._pinged_at: float | None = None
        self._notified = False
        self._over = False
        self._requests = Requests(client, services, self._present)

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
        if self._services.revocations.is_void(identity):
            # A ticket that was bought before.
            self._refuse(credential_revoked())
            return
        self._identity = identity
        self._client.send(frames.welcome(number, self.id, _rfc3339(identity.expires_at)))

    async def receive(self, data: bytes) -> None:
        """Handle one frame; returns when the next one may be read."""
        if self._over:
            return
        self._heard_at = self._services.clock()
        self._pinged_at = None
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
        self._requests.tick(now)

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
        await self._requests.finish(_DRAIN_SECONDS)
        self._client.close(CloseCode.DRAINING, announce=False)

    async def release(self) -> None:
        """The client is gone: nothing of it stays."""
        self._over = True
        self._services.hub.release(self._client)
        await self._requests.cancel()

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
        if self._services.revocations.is_void(identity):
            self._refuse(credential_revoked())
        elif left <= 0:
            self.close(CloseCode.UNAUTHENTICATED, "TOKEN_EXPIRED: the token has expired")
        elif left <= protocol.AUTH_NOTICE_SECONDS and not self._notified:
            self._notified = True
            self._client.send(frames.auth_expiring(_rfc3339(identity.expires_at)))

    def _check_peer(self, now: float) -> None:
        # Counted from the ping: a process that was held up must not take its own silence for the peer's.
        if self._pinged_at is not None:
            if now - self._pinged_at >= protocol.PING_SECONDS:
                self.close(CloseCode.PEER_SILENT, "nothing heard, not even a pong")
        elif now - self._heard_at >= protocol.PING_SECONDS:
            self._pinged_at = now
            self._client.send(frames.PING)

    # Messages of an open session.

    async def _handle(self, message: protocol.Inbound, identity: Identity) -> None:
        number = getattr(message, "id", None)
        if number is not None and self._requests.is_busy(number):
            self.close(CloseCode.BAD_FRAME, f"id {number} is still in use")
            return
        match message:
            case protocol.Ack():
                self._services.hub.ack(self._client, message.sub, message.seq)
            case protocol.Pong():
                pass
            case protocol.Ping():
                self._client.send(frames.PONG)
            case protocol.Call():
                self._requests.call(message)
            case protocol.Subscribe():
                self._requests.subscribe(message)
            case protocol.Unsubscribe():
                self._requests.unsubscribe(message)
            case protocol.Auth():
                await self._refresh(message, identity)
            case protocol.Hello():
                text = "the session is open; send auth to refresh the token"
                self._fail(message.id, FailedPrecondition(text, reason="VALIDATION_FAILED"))

    def _reject(self, message: protocol.BadMessage) -> None:
        error = InvalidArgument(message.message, reason=message.reason, metadata={"type": message.type})
        self._fail(message.id, error)

    def _present(self) -> Identity:
        if self._identity is None:
            raise Unauthenticated("the session is not open", reason="TOKEN_MISSING")
        return self._identity

    def _fail(self, number: int | None, error: DomainError) -> None:
        self._client.send(frames.error(number, error))


def _rfc3339(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
