"""An OpenID Connect provider on a loopback port, in a thread of its own: discovery, keys, tokens, and whatever can go wrong with them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey

CONFIGURATION = "/.well-known/openid-configuration"
KEYS = "/keys"


def make_key(algorithm: str) -> PrivateKey:
    """A new private key for an algorithm."""
    if algorithm.startswith("ES"):
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm])
    return Ed25519PrivateKey.generate() if algorithm == "EdDSA" else rsa.generate_private_key(65537, 2048)


def to_jwk(key: PrivateKey, algorithm: str, **members: str) -> dict[str, Any]:
    """The public half as issuers publish it."""
    found: dict[str, Any] = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return found | members


class OidcIssuer:
    """A context manager. What it serves is in `configuration` and `keys`; `broken` says how an address misbehaves instead: `fails`,
    `hangs`, `trickles`, `floods`, `redirects` (to `elsewhere`), `is no JSON`.
    """

    def __init__(self, path: str = "") -> None:
        self.requests: list[str] = []
        self.broken: dict[str, str] = {}
        self.elsewhere = ""
        self.configuration: dict[str, Any] = {}
        self.keys: list[dict[str, Any]] = []
        self._path = path
        self._private: dict[str, tuple[PrivateKey, str]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        self.configuration = {"issuer": self.issuer, "jwks_uri": self.issuer + KEYS}
        self.add_key("first")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def issuer(self) -> str:
        """Its `iss`."""
        return f"http://127.0.0.1:{self._port}{self._path}"

    def start_again(self) -> None:
        """After `stop`, at the same address."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        """Nobody listens any more."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)

    def add_key(self, key_id: str, algorithm: str = "RS256", *, publish: bool = True, **members: str) -> None:
        """A new key to sign with; unpublished, only it knows."""
        key = make_key(algorithm)
        self._private[key_id] = key, algorithm
        if publish:
            self.keys.append(to_jwk(key, algorithm, **({"kid": key_id, "use": "sig"} | members)))

    def rotate(self, key_id: str, algorithm: str = "RS256") -> None:
        """A new key, and the old ones are withdrawn at once."""
        self.keys.clear()
        self.add_key(key_id, algorithm)

    def private(self, key_id: str = "first") -> PrivateKey:
        """The private half of a key."""
        return self._private[key_id][0]

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good token for the audience `hearth`; None leaves one out."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": "hearth", "sub": "subject", "iat": now, "exp": now + 600} | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *, key_id: str = "first", header: Mapping[str, Any] | None = None, **changes: Any) -> str:
        """A token with these claims."""
        key, algorithm = self._private[key_id]
        headers = {"kid": key_id} | dict(header or {})
        headers = {name: value for name, value in headers.items() if value is not None}
        return jwt.encode(self.claims(**changes), key, headers.get("alg", algorithm), headers=headers)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(self._path)
        self.requests.append(path)
        match self.broken.get(path):
            case "fails":
                return web.Response(status=500, text="out of order")
            case "hangs":
                await asyncio.sleep(3600)
            case "trickles":
                return await _stream(request, b" ", pause_s=0.2, count=1_000)
            case "floods":
                return await _stream(request, b" " * 65_536, pause_s=0, count=160)
            case "redirects":
                return web.Response(status=302, headers={"location": self.elsewhere})
            case "is no JSON":
                return web.Response(text="[" * 100_000)
            case _:
                pass
        found = {CONFIGURATION: self.configuration, KEYS: {"keys": self.keys}}.get(path)
        return web.Response(status=404) if found is None else web.Response(body=json.dumps(found).encode())


async def _stream(request: web.Request, chunk: bytes, *, pause_s: float, count: int) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(count):
        await response.write(chunk)
        await asyncio.sleep(pause_s)
    return response
