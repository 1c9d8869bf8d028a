"""An OpenAI-compatible embeddings endpoint on loopback: words hashed into a vector, so that texts with common words are near."""

import hashlib
from typing import Any, Self

import numpy as np
from aiohttp import web


class EmbeddingServer:
    """Use it as an async context manager. `failing` makes it answer 503; `dimensions` may be changed while it runs."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.failing = False
        self.requests: list[dict[str, Any]] = []
        self.url = ""
        app = web.Application()
        app.router.add_post("/v1/embeddings", self._embeddings)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _embeddings(self, request: web.Request) -> web.Response:
        if self.failing:
            return web.json_response({"error": {"message": "overloaded"}}, status=503)
        body = await request.json()
        self.requests.append({**body, "authorization": request.headers.get("Authorization", "")})
        rows = [{"index": at, "embedding": self._vector(text)} for at, text in enumerate(body["input"])]
        # The order of the answer means nothing; the index does.
        return web.json_response({"object": "list", "model": body["model"], "data": rows[::-1]})

    def _vector(self, text: str) -> list[float]:
        vector = np.full(self.dimensions, 0.01)
        for word in text.lower().replace("?", " ").replace(".", " ").split():
            digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
            vector[int.from_bytes(digest) % self.dimensions] += 1.0
        # Not of length 1: that is for the caller to do.
        return [float(value) for value in vector * 3]
