"""HTTP to servers that tenants name: only to addresses that may be reached, only so much, only so long.

The name is resolved here and the connection made to the address that was checked, so no second answer of the name
server can lead elsewhere; TLS and the Host header still go by the name. Redirects pass through here again (the SDK
follows those that stay on the server's origin, and no others).
"""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache

import httpx2

from tool_svc.adapters.mcp.budget import Budget
from tool_svc.domain.egress import Network, Refused, check_address
from tool_svc.interfaces.mcp import McpFailed

_CONNECT_S = 5.0
_FAREWELL_S = 2.0
_READ_S = 660.0
_STREAMED = "text/event-stream"
_RESOLVE_S = 5.0

# Takes the failure that ends a connection: what is raised inside a request, the SDK would log and forget.
OnFailure = Callable[[McpFailed], None]


def open_client(
    headers: Mapping[str, str],
    networks: Sequence[Network],
    budget: Budget,
    max_message: int,
    on_failure: OnFailure,
) -> httpx2.AsyncClient:
    """A client for one server: no proxies, cookies or credentials of this machine's."""
    return httpx2.AsyncClient(
        # Nothing compressed: a few bytes could become any number.
        headers={**headers, "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(_CONNECT_S, read=_READ_S),
        transport=_Guard(networks, budget, max_message, on_failure),
        trust_env=False,
        follow_redirects=False,
    )


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates of the authorities takes tens of milliseconds."""
    return httpx2.create_ssl_context(trust_env=False)


class _Guard(httpx2.AsyncBaseTransport):
    def __init__(self, networks: Sequence[Network], budget: Budget, max_message: int, on_failure: OnFailure) -> None:
        self._networks = networks
        self._budget = budget
        self._max_message = max_message
        self._on_failure = on_failure
        limits = httpx2.Limits(max_connections=16, max_keepalive_connections=4, keepalive_expiry=30.0)
        self._inner = httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            # A stream for what the server wants to say unasked, kept open for good: nothing here listens.
            return httpx2.Response(405, request=request)
        try:
            await self._pin(request)
            if request.method == "DELETE":
                return await self._farewell(request)
            response = await self._inner.handle_async_request(request)
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                await response.aclose()
                raise McpFailed("it compresses its answer although it was asked not to", begun=True)
        except McpFailed as failure:
            self._on_failure(failure)
            raise
        except httpx2.HTTPError as error:
            self._on_failure(McpFailed(_described(error), begun=not isinstance(error, httpx2.ConnectError)))
            raise
        streamed = response.headers.get("content-type", "").lower().startswith(_STREAMED)
        most = None if streamed else self._max_message
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=_Counted(response.stream, self._budget, most, self._on_failure),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _farewell(self, request: httpx2.Request) -> httpx2.Response:
        """The session's end, told without waiting for more than a moment, nor reading what is answered."""
        try:
            async with asyncio.timeout(_FAREWELL_S):
                response = await self._inner.handle_async_request(request)
                await response.aclose()
        except TimeoutError:
            return httpx2.Response(504, request=request)
        return httpx2.Response(response.status_code, request=request)

    async def _pin(self, request: httpx2.Request) -> None:
        """Points the request at a checked address. Raises McpFailed."""
        host = request.url.host
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        address = await self._resolve(host, port)
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)

    async def _resolve(self, host: str, port: int) -> str:
        try:
            async with asyncio.timeout(_RESOLVE_S):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
        except (OSError, UnicodeError, TimeoutError):
            raise McpFailed(f"the name {host!r} cannot be resolved") from None
        for *_, (address, *_rest) in found:
            with suppress(Refused):
                check_address(ipaddress.ip_address(str(address)), self._networks)
                return str(address)
        raise McpFailed(f"{host!r} has no public address, and the operator of this Hearth does not allow others")


class _Counted(httpx2.AsyncByteStream):
    """A response's body, as far as it may go."""

    def __init__(self, inner: object, budget: Budget, most: int | None, on_failure: OnFailure) -> None:
        assert isinstance(inner, httpx2.AsyncByteStream)
        self._inner = inner
        self._budget = budget
        self._left = most
        self._on_failure = on_failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._inner:
                self._spend(part)
                yield part
        except McpFailed as failure:
            self._on_failure(failure)
            raise
        except httpx2.HTTPError as error:
            self._on_failure(McpFailed(_described(error), begun=True))
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    def _spend(self, part: bytes) -> None:
        self._budget.spend(part)
        if self._left is not None:
            self._left -= len(part)
            if self._left < 0:
                raise McpFailed("an answer of it is too large", begun=True)


def _described(error: httpx2.HTTPError) -> str:
    """What went wrong, in words that are not the other side's."""
    match error:
        case httpx2.ConnectTimeout():
            return "no connection within the time allowed"
        case httpx2.ConnectError():
            return "it cannot be connected to"
        case httpx2.TimeoutException():
            return "it did not answer in time"
        case httpx2.RemoteProtocolError():
            return "it does not speak HTTP, or broke off"
        case _:
            return "the connection broke"
