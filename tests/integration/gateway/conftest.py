"""A gateway application on a free port before a scripted Hearth, and clients that speak `hearth.v1`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from gateway.factory import Built, build
from gateway.settings import GatewaySettings
from tests.fakes.scripted_hearth import ScriptedHearth, service_key_file

DEADLINE_S = 10.0


class Client:
    """A WebSocket client that keeps pushes and answers apart."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._numbers = itertools.count(1)

    async def send(self, **message: Any) -> None:
        await self.socket.send_str(orjson.dumps(message).decode())

    async def receive(self) -> dict[str, Any]:
        """The next frame; {"type": "closed", "code": …} at the end."""
        message = await asyncio.wait_for(self.socket.receive(), DEADLINE_S)
        if message.type is aiohttp.WSMsgType.TEXT:
            frame: dict[str, Any] = orjson.loads(message.data)
            return frame
        return {"type": "closed", "code": self.socket.close_code}

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """All frames up to and including the first wanted one."""
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(DEADLINE_S):
            while True:
                frame = await self.receive()
                seen.append(frame)
                if wanted(frame):
                    return seen
                if frame["type"] == "closed":
                    raise AssertionError(f"closed before what was awaited: {seen[-5:]}")

    @property
    def transport(self) -> asyncio.Transport:
        """The connection under the socket, for tests that pause or cut it."""
        connection = self.socket._conn
        assert connection is not None
        assert isinstance(connection.transport, asyncio.Transport)
        return connection.transport

    async def request(self, kind: str, **fields: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self.send(type=kind, id=number, **fields)
        seen = await self.until(lambda frame: frame.get("id") == number)
        return seen[-1]

    async def closed(self) -> tuple[dict[str, Any] | None, int]:
        """The `closing` frame, if any, and the close code."""
        closing = None
        while True:
            frame = await self.receive()
            if frame["type"] == "closing":
                closing = frame
            if frame["type"] == "closed":
                return closing, frame["code"]


class Harness:
    """What a test uses: the scripted Hearth, the built gateway, its address, and `connect`."""

    def __init__(self, hearth: ScriptedHearth, built: Built, port: int, http: aiohttp.ClientSession) -> None:
        self.hearth = hearth
        self.built = built
        self.origin = f"http://127.0.0.1:{port}"
        self.url = f"{self.origin}/v1/socket"
        self.http = http
        self._open: list[aiohttp.ClientWebSocketResponse] = []

    @property
    def world(self) -> Any:
        return self.hearth.world

    async def dial(self, **options: Any) -> Client:
        """A socket before its hello."""
        options.setdefault("protocols", ("hearth.v1",))
        options.setdefault("origin", self.origin)
        options.setdefault("max_msg_size", 8 * 1024 * 1024)
        socket = await self.http.ws_connect(options.pop("url", self.url), **options)
        self._open.append(socket)
        return Client(socket)

    async def connect(self, token: str | None = None, **options: Any) -> Client:
        """A socket with an open session."""
        client = await self.dial(**options)
        answer = await client.request("hello", token=token or self.world.tokens.issue())
        assert answer["type"] == "welcome", answer
        return client

    async def eventually(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            for _ in itertools.count():
                if holds():
                    return
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        for socket in self._open:
            await socket.close()


async def serve(built: Built) -> tuple[web.AppRunner, int]:
    runner = web.AppRunner(built.gateway.application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await built.revocations.start()
    built.gateway.start()
    return runner, runner.addresses[0][1]


@pytest.fixture
async def hearth() -> AsyncIterator[ScriptedHearth]:
    scripted = ScriptedHearth()
    await scripted.start()
    yield scripted
    await scripted.close()


@pytest.fixture
def settings(hearth: ScriptedHearth, tmp_path: Path) -> GatewaySettings:
    return GatewaySettings(
        user_svc_address=hearth.address,
        tool_svc_address=hearth.address,
        memory_svc_address=hearth.address,
        agent_svc_address=hearth.address,
        service_key_file=service_key_file(tmp_path),
        allowed_origins="https://friend.example.org",
    )


@pytest.fixture
async def harness(hearth: ScriptedHearth, settings: GatewaySettings) -> AsyncIterator[Harness]:
    built = build(settings)
    runner, port = await serve(built)
    async with aiohttp.ClientSession() as http:
        harness = Harness(hearth, built, port, http)
        yield harness
        await harness.close()
    await built.gateway.stop()
    await runner.cleanup()
    await built.close()
