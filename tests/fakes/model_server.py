"""A model server that plays scripts: real HTTP, OpenAI chat completions (`/v1`) and Anthropic messages, behind the ordinary provider code; OpenAI
Responses and Google's protocol for what goes through the library.

`async with FakeModelServer() as server` runs it in this event loop, `ThreadedModelServer` (model_control.py) in a thread, and
`python -m tests.fakes.model_server --port 0 --port-file FILE` in a process of its own. Control over HTTP:

    POST   /control/scripts         {"match": marker, "steps": [...]}   (or a list of them)      DELETE forgets all scripts
    GET    /control/requests        every model request seen; ?match=TEXT only those that contain it       DELETE forgets them
    GET    /control/state           in_flight, seen, outcomes
    POST   /control/default         {"mode": "echo"} or {"mode": "instant", "tokens": 50, "record": false}
    POST   /control/gates/NAME      open a gate; a step with "gate": NAME waits for it      DELETE /control/gates opens every gate
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from tests.fakes import model_frames, model_library_frames
from tests.fakes.model_frames import Frames
from tests.fakes.model_script import Book, Default, Script, SeenRequest, Step

Builder = Callable[[Step, dict[str, Any], int], Frames]


class FakeModelServer:
    """The server in this event loop. `url` ends in `/v1`; `book` is its state, which tests in the same loop may touch.

    `connections` are the peers that have asked a model, one per TCP connection.
    """

    def __init__(self, port: int = 0) -> None:
        self.book = Book()
        self.port = port
        self.connections: set[object] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL for an OpenAI-compatible provider."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> FakeModelServer:
        self._runner = web.AppRunner(self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.book.open_every_gate()
        if self._runner is not None:
            await self._runner.cleanup()

    def script(self, match: str, *steps: Step, repeat: bool = False, model: str = "") -> None:
        """Play `steps` for requests whose user messages contain `match`, of one model if that is named."""
        self.book.scripts.append(Script(match, list(steps), repeat=repeat, model=model))

    async def until(self, condition: Callable[[Book], bool], timeout_s: float = 5.0) -> None:
        """Wait for a condition on the book; raises TimeoutError."""
        for _ in range(int(timeout_s / 0.01)):
            if condition(self.book):
                return
            await asyncio.sleep(0.01)
        raise TimeoutError(f"in flight {self.book.in_flight}, seen {[seen.outcome for seen in self.book.requests]}")

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/messages", self._messages),
                web.post("/v1/responses", self._responses),
                web.post("/v1beta/models/{model}:streamGenerateContent", self._google),
                web.get("/v1/models", self._models),
                web.post("/control/scripts", self._add_scripts),
                web.delete("/control/scripts", self._forget_scripts),
                web.get("/control/requests", self._requests),
                web.delete("/control/requests", self._forget_requests),
                web.get("/control/state", self._state),
                web.post("/control/default", self._set_default),
                web.post("/control/gates/{name}", self._open_gate),
                web.delete("/control/gates", self._open_gates),
            ]
        )
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, model_frames.openai)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, model_frames.anthropic)

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, model_library_frames.responses)

    async def _google(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, model_library_frames.google)

    async def _answer(self, request: web.Request, build: Builder) -> web.StreamResponse:
        try:
            body: dict[str, Any] = msgspec.json.decode(await request.read(), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            return web.json_response({"error": {"message": str(error), "type": "invalid_request_error"}}, status=400)
        seen = self.book.note(request.path, body, {name.lower(): value for name, value in request.headers.items()})
        if request.transport is not None:
            self.connections.add(request.transport.get_extra_info("peername"))
        self.book.in_flight += 1
        try:
            response = await self._play(request, self.book.next_step(seen), seen, build)
        except (asyncio.CancelledError, ConnectionError):
            seen.outcome = "client_closed"
            raise
        finally:
            self.book.in_flight -= 1
        return response

    async def _play(self, request: web.Request, step: Step, seen: SeenRequest, build: Builder) -> web.StreamResponse:
        await asyncio.sleep(step.delay_ms / 1000)
        if step.stall_before_head:
            await asyncio.Event().wait()
        if step.status != 200:
            seen.outcome = "error"
            error = {"message": step.error or f"scripted failure {step.status}", "type": "scripted_error"}
            return web.json_response({"error": error}, status=step.status, headers=step.headers)
        if not seen.body.get("stream") and build is model_frames.openai:
            seen.outcome = "completed"
            return web.json_response(model_frames.openai_whole(step, seen.body, seen.number), headers=step.headers)
        response = web.StreamResponse(headers={"Cache-Control": "no-cache", **step.headers})
        response.content_type = step.content_type or "text/event-stream"
        await response.prepare(request)
        await self._send(request, response, step, seen, build(step, seen.body, seen.number))
        return response

    async def _send(
        self, request: web.Request, response: web.StreamResponse, step: Step, seen: SeenRequest, frames: Frames
    ) -> None:
        if step.raw is not None:
            frames = Frames(pieces=[piece.encode() for piece in step.raw])
        for frame in frames.head:
            await response.write(frame)
        for piece in frames.pieces:
            if await self._disturb(request, response, step, seen):
                return
            if seen.pieces and step.token_delay_ms:
                await asyncio.sleep(step.token_delay_ms / 1000)
            await response.write(piece)
            seen.pieces += 1
        if await self._disturb(request, response, step, seen):
            return
        for frame in frames.tail:
            await response.write(frame)
        await response.write_eof()
        seen.outcome = "completed"

    async def _disturb(self, request: web.Request, response: web.StreamResponse, step: Step, seen: SeenRequest) -> bool:
        """Do what the step wants done at this point; True when the connection is gone."""
        if step.gate and step.gate_after == seen.pieces:
            await self.book.gate(step.gate).wait()
        if step.garbage_after == seen.pieces:
            await response.write(b"data: this is not JSON\n\n")
        if step.stall_after == seen.pieces:
            await asyncio.Event().wait()
        if step.cut_after == seen.pieces:
            seen.outcome = "cut"
            await asyncio.sleep(0.01)  # What was written shall arrive before the reset.
            if request.transport is not None:
                request.transport.abort()
            return True
        return False

    async def _models(self, request: web.Request) -> web.Response:
        models = [{"id": name, "object": "model", "owned_by": "scripted"} for name in self.book.models]
        return web.json_response({"object": "list", "data": models})

    async def _add_scripts(self, request: web.Request) -> web.Response:
        scripts = await _decoded(request, Script | list[Script])
        self.book.scripts.extend(scripts if isinstance(scripts, list) else [scripts])
        return web.json_response({})

    async def _forget_scripts(self, request: web.Request) -> web.Response:
        self.book.scripts.clear()
        return web.json_response({})

    async def _requests(self, request: web.Request) -> web.Response:
        match = request.query.get("match", "")
        seen = [r for r in self.book.requests if match in json.dumps(r.body, ensure_ascii=False)]
        return web.Response(body=msgspec.json.encode({"requests": seen}), content_type="application/json")

    async def _forget_requests(self, request: web.Request) -> web.Response:
        self.book.requests.clear()
        return web.json_response({})

    async def _state(self, request: web.Request) -> web.Response:
        outcomes = collections.Counter(seen.outcome for seen in self.book.requests)
        state = {"in_flight": self.book.in_flight, "seen": len(self.book.requests), "outcomes": outcomes}
        return web.json_response(state)

    async def _set_default(self, request: web.Request) -> web.Response:
        values: dict[str, Any] = await _decoded(request, dict[str, Any])
        self.book.recording = bool(values.pop("record", True))
        self.book.default = msgspec.convert(values, Default)
        return web.json_response({})

    async def _open_gate(self, request: web.Request) -> web.Response:
        self.book.gate(request.match_info["name"]).set()
        return web.json_response({})

    async def _open_gates(self, request: web.Request) -> web.Response:
        self.book.open_every_gate()
        return web.json_response({})


async def _decoded(request: web.Request, kind: Any) -> Any:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.MsgspecError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


async def serve(port: int, port_file: Path | None, stop: Awaitable[object]) -> None:
    """Serve until `stop`; the port is written to `port_file` when the server answers."""
    async with FakeModelServer(port) as server:
        if port_file is not None:
            unfinished = port_file.with_name(port_file.name + ".part")
            unfinished.write_text(str(server.port))
            unfinished.replace(port_file)
        await stop


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A model server that plays scripts, for tests and benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path)
    arguments = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(arguments.port, arguments.port_file, stop.wait())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
