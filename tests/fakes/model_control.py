"""Synchronous hands on a scripted model server: over its control endpoints, and one that runs in a thread of this process."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.model_server import FakeModelServer

State = dict[str, Any]


class ModelServerControl:
    """Speaks to `http://host:port/control/…`. Steps are plain dictionaries, see model_script.Step for their keys."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/").removesuffix("/v1")

    @property
    def url(self) -> str:
        """The base URL for an OpenAI-compatible provider."""
        return f"{self.root}/v1"

    def script(self, match: str, *steps: Mapping[str, Any], **options: Any) -> None:
        """Play `steps` for requests with the marker; `options` are scope and repeat."""
        self._call("POST", "scripts", {"match": match, "steps": list(steps), **options})

    def requests(self, match: str = "") -> list[dict[str, Any]]:
        """Every model request seen, oldest first."""
        return self._call("GET", f"requests?{urllib.parse.urlencode({'match': match})}")["requests"]

    def state(self) -> State:
        """in_flight, seen, outcomes."""
        return self._call("GET", "state")

    def until(self, condition: Callable[[State], bool], timeout_s: float = 5.0) -> State:
        """Wait for a condition on the state; raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while not condition(state := self.state()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the model server's state is {state}")
            time.sleep(0.02)
        return state

    def default(self, **values: Any) -> None:
        """Set what is answered without a script: mode, tokens, token_delay_ms, record."""
        self._call("POST", "default", values)

    def open_gate(self, name: str) -> None:
        """Let the steps go on that wait at this gate."""
        self._call("POST", f"gates/{urllib.parse.quote(name)}")

    def reset(self) -> None:
        """Forget scripts and requests, open every gate, echo again."""
        for what in ("scripts", "requests", "gates"):
            self._call("DELETE", what)
        self.default(mode="echo")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = json.dumps(body if body is not None else {}).encode() if method == "POST" else None
        request = urllib.request.Request(f"{self.root}/control/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())


class ThreadedModelServer(ModelServerControl):
    """A scripted model server in a thread: `with ThreadedModelServer() as server`."""

    def __init__(self, port: int = 0) -> None:
        super().__init__("")
        self._server = FakeModelServer(port)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="model-server", daemon=True)

    def __enter__(self) -> ThreadedModelServer:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the model server did not start")
        self.root = f"http://127.0.0.1:{self._server.port}"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async with self._server:
            self._ready.set()
            await self._stop.wait()
