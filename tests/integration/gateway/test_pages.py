"""What the gateway serves besides the socket: the page, its assets, the SDK, health; and the headers around them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import gateway.pages
from tests.integration.gateway.conftest import Harness

WEB = Path(gateway.pages.__file__).parent / "web"
ASSETS = sorted(path.name for path in (WEB / "assets").iterdir())


@pytest.mark.parametrize("path", ["/", "/hearth.js", *(f"/assets/{name}" for name in ASSETS)])
async def test_everything_is_served_with_strict_headers(harness: Harness, path: str) -> None:
    async with harness.http.get(harness.origin + path) as answer:
        assert answer.status == 200
        headers = answer.headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        etag = headers["ETag"]
    async with harness.http.get(harness.origin + path, headers={"If-None-Match": etag}) as answer:
        assert answer.status == 304


@pytest.mark.parametrize(
    "path", ["/assets/", "/assets/../settings.py", "/assets/%2e%2e/settings.py", "/web/index.html", "/x"]
)
async def test_nothing_else_is_served(harness: Harness, path: str) -> None:
    async with harness.http.get(harness.origin + path) as answer:
        assert answer.status == 404


def test_page_loads_nothing_foreign_and_has_no_inline_code() -> None:
    html = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)", html)
    assert not re.search(r"\son\w+=|style=", html)
    assert "<style" not in html
    for path in [*(WEB / "assets").iterdir(), WEB / "index.html"]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"""(?:src|href|import|url\(|from)\s*[=(]?\s*["']?https?:""", text), path
        assert "innerHTML" not in text
        assert "insertAdjacentHTML" not in text
        assert "localStorage" not in text


async def test_health(harness: Harness) -> None:
    async with harness.http.get(f"{harness.origin}/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "serving"})
