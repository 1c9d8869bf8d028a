"""The web page and the browser SDK: read once, served from memory with headers that allow nothing but themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

_WEB: Final = Path(__file__).parent / "web"
_SDK: Final = Path(__file__).parent.parent / "clients" / "web" / "hearth.js"

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class _Page:
    body: bytes
    content_type: str
    etag: str


def add_pages(router: web.UrlDispatcher) -> None:
    """Serve `/`, `/assets/…` and `/hearth.js`."""
    files = {"/": _WEB / "index.html", "/hearth.js": _SDK}
    for path in sorted((_WEB / "assets").iterdir()):
        if path.suffix in _TYPES:
            files[f"/assets/{path.name}"] = path
    for route, path in files.items():
        router.add_get(route, _serve(_read(path)))


def _read(path: Path) -> _Page:
    body = path.read_bytes()
    return _Page(body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:20]}"')


def _serve(page: _Page) -> Callable[[web.Request], Awaitable[web.Response]]:
    headers = {"ETag": page.etag, "Cache-Control": "no-cache", **SECURITY_HEADERS}

    async def handler(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == page.etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=page.body, headers={"Content-Type": page.content_type, **headers})

    return handler
