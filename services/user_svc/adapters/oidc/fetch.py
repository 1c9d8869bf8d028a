"""Reading JSON from addresses that administrators of organizations chose: nothing of the inside is reached by it.

Only https, only public addresses (checked where the connection is made, whatever the name says the next time), no redirects, no
more than 256 KiB, no longer than 5 s. `allow_private` lifts the first two, for issuers inside a network and for tests.
"""

import ipaddress
import json
import socket
import ssl
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

MOST_BYTES = 256 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=5.0, sock_connect=2.0)
# Addresses in which another is hidden, which this machine may reach by it.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class FetchError(Exception):
    """What was asked for cannot be had; the text is for the administrator of an organization."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet's."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found.sixtofour is not None or found.teredo is not None or found in _NAT64:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


class JsonFetcher:
    """Reads JSON objects. Belongs to one event loop: that of its first fetch."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Ends all connections."""
        if self._session is not None:
            await self._session.close()

    def refuse(self, address: str) -> str:
        """Why an address can never be read; empty if it can."""
        try:
            url = URL(address)
        except ValueError:
            return "is not an address"
        if url.scheme != "https" and not (self._allow_private and url.scheme == "http"):
            return "must begin with https://"
        if not url.host or url.user is not None:
            return "must name a host and nobody's password"
        if self._allow_private:
            return ""
        try:
            ipaddress.ip_address(url.host)
        except ValueError:
            inside = url.host == "localhost" or url.host.endswith((".localhost", ".local", ".internal"))
        else:
            inside = not is_public(url.host)
        return "is not a public address" if inside else ""

    async def read(self, address: str) -> dict[str, Any]:
        """The JSON object at an address. Raises FetchError."""
        if reason := self.refuse(address):
            raise FetchError(f"{_shown(address)} {reason}")
        try:
            async with self._client().get(URL(address), allow_redirects=False) as answer:
                if answer.status != 200:
                    raise FetchError(f"{_shown(address)} answers with status {answer.status}")
                body = await _limited(answer, address)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise FetchError(f"{_shown(address)} does not answer ({type(error).__name__})") from error
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise FetchError(f"{_shown(address)} holds no JSON object")
        return found

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            resolver = aiohttp.ThreadedResolver() if self._allow_private else _PublicResolver()
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=resolver,
                    ssl=ssl.create_default_context(),
                    limit=32,
                    force_close=True,
                    ttl_dns_cache=0,
                ),
                timeout=_TIMEOUT,
                # Compressed, little could become much.
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


class _PublicResolver(AbstractResolver):
    """Finds the public addresses of a name, and those are the ones connected to."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = [one for one in await self._inner.resolve(host, port, family) if is_public(one["host"])]
        if not found:
            raise OSError(f"{host} has no public address")
        return found

    async def close(self) -> None:
        await self._inner.close()


async def _limited(answer: aiohttp.ClientResponse, address: str) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(16 * 1024):
        body += chunk
        if len(body) > MOST_BYTES:
            raise FetchError(f"{_shown(address)} answers with more than {MOST_BYTES} bytes")
    return bytes(body)


def _shown(address: str) -> str:
    return address if len(address) <= 200 else address[:199] + "…"
