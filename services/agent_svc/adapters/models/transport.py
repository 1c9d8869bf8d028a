"""HTTP to a model server: one keep-alive session, bounded waits, retries before the first event, and the bytes of an answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.retrying import wait_for_retry
from agent_svc.domain.model import ModelError, ModelTimeout, ModelUnavailable

_MAX_ERROR_BODY = 64 * 1024
_MAX_BODY = 64 * 1024 * 1024
_DRAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to wait (seconds) and how often to try. Retries happen only before the first event of an answer.

    `first_byte_s` covers the reading of the prompt, `idle_s` is the longest silence between two chunks. A Retry-After
    above `max_retry_wait_s` is not waited for but reported.
    """

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    list_s: float = 5.0
    attempts: int = 3
    backoff_s: float = 0.5
    max_retry_wait_s: float = 20.0
    connections: int = 1024


class Transport:
    """One model server. `server` is how messages call it, e.g. "The model server at http://127.0.0.1:8000/v1".

    `origin` is its host and port.
    """

    def __init__(self, server: str, base_url: str, headers: Mapping[str, str], limits: Limits) -> None:
        self.server = server
        self.limits = limits
        self._base_url = base_url.rstrip("/")
        self.origin = urlsplit(base_url).netloc.rpartition("@")[2]
        # What a provider says of a request may quote the key that came with it.
        self._secrets = [value.removeprefix("Bearer ").encode() for value in headers.values() if len(value) >= 16]
        self._headers = {
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": "hearth",
            **headers,
        }
        self._session: aiohttp.ClientSession | None = None
        self._answers: set[Answer] = set()
        self._closed = False

    async def aclose(self) -> None:
        """Close every connection; answers under way raise ModelUnavailable."""
        self._closed = True
        for answer in list(self._answers):
            answer.abort(self._shutting_down())
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str) -> bytes:
        """The body of a GET; raises ModelError. Not retried: who lists models can ask again."""
        try:
            async with asyncio.timeout(self.limits.list_s):
                async with self._open_session().get(self._base_url + path, allow_redirects=False) as response:
                    body = await _read_up_to(response, _MAX_BODY)
                    if response.status != 200:
                        raise failures.from_response(self.server, "", response.status, response.headers, body)
                    return body
        except TimeoutError:
            raise ModelTimeout(f"{self.server} did not answer within {self.limits.list_s:g} s.") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise self._unreachable(error) from None

    async def post(self, path: str, body: bytes, model: str) -> Answer:
        """Send `body` once and return the answer when its head says 200; else raises ModelError."""
        session = self._open_session()
        limit_s = self.limits.connect_s + self.limits.first_byte_s
        try:
            async with asyncio.timeout(limit_s):
                response = await session.post(self._base_url + path, data=body, allow_redirects=False)
        except aiohttp.ConnectionTimeoutError:
            seconds = f"{self.limits.connect_s:g} s"
            raise ModelUnavailable(f"{self.server} is not reachable (no connection within {seconds}).") from None
        except TimeoutError:
            raise self.silent_for(limit_s) from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            raise self._unreachable(error) from None
        if response.status == 200:
            answer = Answer(self, response)
            self._answers.add(answer)
            return answer
        error_body = b""
        try:
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(self.limits.list_s):
                    error_body = await _read_up_to(response, _MAX_ERROR_BODY)
        finally:
            response.release()
        for secret in self._secrets:
            error_body = error_body.replace(secret, b"[hidden]")
        raise failures.from_response(self.server, model, response.status, response.headers, error_body)

    async def wait_for_retry(self, attempt: int, error: ModelError) -> bool:
        """After the failed `attempt` (from 1): wait and return True, or return False when another is not worth it."""
        return not self._closed and await wait_for_retry(self.limits, attempt, error)

    def silent_for(self, seconds: float) -> ModelTimeout:
        """The error of a server that has sent nothing for so long."""
        return ModelTimeout(f"{self.server} sent nothing for {seconds:g} s.")

    def forget(self, answer: Answer) -> None:
        """The answer is over."""
        self._answers.discard(answer)

    def _unreachable(self, error: Exception) -> ModelUnavailable:
        if self._closed:
            return self._shutting_down()
        return ModelUnavailable(f"{self.server} is not reachable ({_cause(error)}).")

    def _shutting_down(self) -> ModelUnavailable:
        return ModelUnavailable("The model call was broken off because this process is shutting down.")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise self._shutting_down()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.limits.connections, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=None, connect=self.limits.connect_s),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class Answer:
    """The body of a 200 answer. As an async context manager it closes its connection at once, unless read to the end.

    Silence is watched with one timer per answer, not one per chunk: chunks only note the time.
    """

    def __init__(self, transport: Transport, response: aiohttp.ClientResponse) -> None:
        self._transport = transport
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._waiting_since = 0.0
        self._limit_s = transport.limits.first_byte_s
        self._timer = self._loop.call_later(self._limit_s, self._look)
        self._size = 0
        self._begun = False
        self._complete = False
        self.content_type = response.content_type

    async def __aenter__(self) -> Answer:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._timer.cancel()
        try:
            if self._complete and not self._response.content.at_eof():
                # The end of the body comes right behind the last event; once it is read, the connection can be kept.
                with contextlib.suppress(aiohttp.ClientError, ModelError, TimeoutError):
                    async with asyncio.timeout(_DRAIN_S):
                        while await self._response.content.readany():
                            pass
        finally:
            self._transport.forget(self)
            self._response.release()

    async def read(self) -> bytes:
        """What has come since the last read, waiting for something; empty at the end of the body.

        Raises ModelTimeout after too long a silence, ModelProtocolError when the connection broke.
        """
        self._waiting_since = self._loop.time()
        try:
            chunk = await self._response.content.readany()
        except aiohttp.ClientError:
            raise failures.broke_off(self._transport.server) from None
        self._waiting_since = 0.0
        if not self._begun:
            self._begun = True
            self.allow_silence(self._transport.limits.idle_s)
        self._size += len(chunk)
        if self._size > _MAX_BODY:
            raise failures.garbage(self._transport.server, "an answer without end")
        return chunk

    def complete(self) -> None:
        """Declare the answer understood to its end: what may follow is of no interest."""
        self._complete = True

    def allow_silence(self, seconds: float) -> None:
        """Change how long the server may be silent from now on."""
        self._limit_s = seconds
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def abort(self, error: ModelError) -> None:
        """Make the pending or next read raise `error`."""
        self._response.content.set_exception(error)

    def _look(self) -> None:
        now = self._loop.time()
        since = self._waiting_since or now
        if now - since >= self._limit_s - 0.001:
            self.abort(self._transport.silent_for(self._limit_s))
        else:
            self._timer = self._loop.call_later(since + self._limit_s - now, self._look)


async def _read_up_to(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, cut at `limit` bytes."""
    pieces: list[bytes] = []
    size = 0
    while size < limit and (piece := await response.content.readany()):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)[:limit]


def _cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name cannot be resolved"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its TLS certificate is not accepted"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    if isinstance(error, (aiohttp.InvalidURL, UnicodeError)):
        return "its URL is not valid"
    if isinstance(error, OSError):
        if isinstance(error, ConnectionResetError):
            return "it closed the connection"
        return "connection refused" if _is_refused(error) else "the connection failed"
    return "it does not speak HTTP"


def _is_refused(error: OSError) -> bool:
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return isinstance(inner, ConnectionRefusedError) or "refused" in str(inner).lower()
