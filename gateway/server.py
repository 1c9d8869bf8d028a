"""The gateway's HTTP face: the socket's endpoint, tickets, health, the page; and the life of all open sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from typing import Final, cast

import orjson
from aiohttp import WSMsgType, hdrs, web

from chassis.auth import bearer
from chassis.errors import DomainError, PermissionDenied
from chassis.identity import Identity
from chassis.tasks import end_task
from gateway import frames
from gateway.origins import OriginPolicy
from gateway.pages import SECURITY_HEADERS, add_pages
from gateway.protocol import SUBPROTOCOL, CloseCode
from gateway.requests import Services
from gateway.session import Session
from gateway.tickets import TICKET_SECONDS, Tickets
from gateway.websocket import Socket, WebSocketClient

_log = logging.getLogger(__name__)

RETRY_SPREAD_MS: Final = 25_000
_TICK_SECONDS: Final = 1.0
_LEAVING_SECONDS: Final = 5.0
_HTTP_STATUS: Final = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
}


class Gateway:
    """Holds the open sessions. `start` begins the once-a-second rounds, `drain` ends everything in good order."""

    def __init__(self, services: Services, origins: OriginPolicy, *, max_connections: int) -> None:
        self._services = services
        self._origins = origins
        self._max_connections = max_connections
        self._tickets = Tickets(services.clock)
        self._sessions: dict[Session, WebSocketClient] = {}
        self._draining = False
        self._emptied = asyncio.Event()
        self._ticker: asyncio.Task[None] | None = None

    @property
    def connections(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def application(self) -> web.Application:
        """The HTTP application of this gateway."""
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/v1/socket", self._socket)
        app.router.add_post("/v1/tickets", self._ticket)
        app.router.add_get("/healthz", self._health)
        add_pages(app.router)
        return app

    def start(self) -> None:
        """Begin the rounds."""
        self._ticker = asyncio.create_task(self._tick())

    async def drain(self) -> None:
        """Take no new sockets, tell every client when to come back (spread over 25 s), finish and close."""
        self._draining = True
        sessions = list(self._sessions)
        secrets.SystemRandom().shuffle(sessions)
        step = RETRY_SPREAD_MS // max(len(sessions), 1)
        await asyncio.gather(*(session.drain(place * step) for place, session in enumerate(sessions)))
        if self._sessions:
            self._emptied.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEAVING_SECONDS):
                    await self._emptied.wait()

    async def stop(self) -> None:
        """End the rounds."""
        await end_task(self._ticker)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now, loop_now = self._services.clock(), loop.time()
            for session, client in list(self._sessions.items()):
                try:
                    session.tick(now)
                    client.check_stall(loop_now)
                except Exception:
                    _log.exception("a session's round failed")
                    session.close(CloseCode.INTERNAL)

    async def _health(self, _request: web.Request) -> web.Response:
        state = "draining" if self._draining else "serving"
        return web.json_response({"status": state}, status=503 if self._draining else 200)

    async def _ticket(self, request: web.Request) -> web.Response:
        origin = request.headers.get(hdrs.ORIGIN, "")
        try:
            if origin and not self._origins.admits(origin, request.host):
                raise PermissionDenied("this origin may not open sockets", reason="ROLE_INSUFFICIENT")
            identity = await self._services.verifier(bearer(request.headers.get(hdrs.AUTHORIZATION)))
            ticket = self._tickets.issue(identity, origin)
        except DomainError as error:
            return web.Response(
                body=frames.plain_error(error),
                status=_HTTP_STATUS.get(error.code, 500),
                content_type="application/json",
                headers=SECURITY_HEADERS,
            )
        body = orjson.dumps({"ticket": ticket, "expires_in_ms": int(TICKET_SECONDS * 1000)})
        return web.Response(
            body=body, content_type="application/json", headers={"Cache-Control": "no-store", **SECURITY_HEADERS}
        )

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = Socket()
        if not socket.can_prepare(request):
            return web.Response(status=426, headers={"Upgrade": "websocket"}, text="this is a WebSocket endpoint\n")
        await socket.prepare(request)
        client = WebSocketClient(socket, request.transport)
        session = Session(client, self._services)
        self._sessions[session] = client
        try:
            await self._converse(request, socket, client, session)
        finally:
            await session.release()
            await client.shut()
            del self._sessions[session]
            if not self._sessions:
                self._emptied.set()
        return socket

    async def _converse(self, request: web.Request, socket: Socket, client: WebSocketClient, session: Session) -> None:
        """Until the peer leaves, or what the session had to say before closing is sent."""
        loop = asyncio.get_running_loop()
        reading = asyncio.timeout(None)
        try:
            async with reading:
                client.when_flushed(lambda: reading.reschedule(loop.time()))
                await self._open(request, socket, client, session)
                await _read(socket, client, session)
        except TimeoutError:
            if not reading.expired():
                raise
        except ConnectionError:
            _log.debug("the peer went away")
        except Exception:
            _log.exception("a session failed")
            client.when_flushed(None)
            session.close(CloseCode.INTERNAL)
            await client.wait_flushed()
        finally:
            client.when_flushed(None)

    async def _open(self, request: web.Request, socket: Socket, client: WebSocketClient, session: Session) -> None:
        """Decide about the upgrade: refused ones are closed with a code, a credential in it opens the session."""
        if self._draining or len(self._sessions) > self._max_connections:
            retry_after_ms = secrets.randbelow(RETRY_SPREAD_MS)
            session.close(CloseCode.DRAINING, "no room here now", retry_after_ms=retry_after_ms)
        elif socket.ws_protocol != SUBPROTOCOL:
            session.close(CloseCode.SUBPROTOCOL, f"ask for the subprotocol {SUBPROTOCOL}")
        elif not self._may_enter(request):
            session.close(CloseCode.FORBIDDEN, "this origin may not open sockets")
        elif hdrs.AUTHORIZATION in request.headers:
            await self._open_with_header(request, session)
        elif "ticket" in request.query:
            self._open_with_ticket(request, session)

    def _may_enter(self, request: web.Request) -> bool:
        """Browsers always send an Origin and cannot set Authorization: who sets it is no browser and may lack one."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None and hdrs.AUTHORIZATION in request.headers:
            return True
        return self._origins.admits(origin, request.host)

    async def _open_with_header(self, request: web.Request, session: Session) -> None:
        try:
            token = bearer(request.headers.get(hdrs.AUTHORIZATION))
        except DomainError as error:
            session.close(CloseCode.UNAUTHENTICATED, f"{error.reason}: {error.message}")
            return
        await session.open_with(token)

    def _open_with_ticket(self, request: web.Request, session: Session) -> None:
        try:
            identity: Identity = self._tickets.redeem(request.query["ticket"], request.headers.get(hdrs.ORIGIN, ""))
        except DomainError as error:
            session.close(CloseCode.UNAUTHENTICATED, f"{error.reason}: {error.message}")
            return
        session.accept(identity)


async def _read(socket: Socket, client: WebSocketClient, session: Session) -> None:
    """Frames until the socket closes, one at a time, none while the client does not read its answers."""
    while True:
        message = await socket.receive()
        if message.type is WSMsgType.TEXT:
            await session.receive(cast(bytes, message.data))
        elif message.type is WSMsgType.BINARY:
            session.close(CloseCode.BAD_FRAME, "binary frames are not part of the protocol")
        else:
            return
        await client.wait_for_room()
