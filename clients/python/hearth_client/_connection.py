"""One connection to a Hearth: channel, credentials, retries. The faces make their calls through it."""

import functools
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import grpc
import grpc.aio

from hearth.user.v1.token_service_pb2 import IssueTokenRequest, IssueTokenResponse
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from hearth_client._backoff import Backoff
from hearth_client._status import from_rpc_error
from hearth_client._tokens import TokenSource
from hearth_client.errors import UnauthenticatedError, UnavailableError

Request = TypeVar("Request")
Response = TypeVar("Response")

_OPTIONS = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
    # A server that restarts is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def new_request_id() -> str:
    """A request id: what is sent twice under it happens once."""
    return str(uuid.uuid4())


class Connection:
    """Calls with a token, a deadline, and retries while the server is UNAVAILABLE.

    All in seconds: `timeout_s` of one attempt at a unary call; `retry_for_s`, how long a call is tried again; `reconnect_for_s`, how long
    a broken stream is; `silence_s`, after how long without a word a stream counts as broken (the server speaks every 15 s).
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout_s: float = 10.0,
        retry_for_s: float = 10.0,
        reconnect_for_s: float = 120.0,
        silence_s: float = 45.0,
        root_certificates: bytes | None = None,
    ) -> None:
        self._target, self._secure, self._loopback = _parse(url)
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._root_certificates = root_certificates
        self.retry_for_s = retry_for_s
        self.reconnect_for_s = reconnect_for_s
        self.silence_s = silence_s
        self.tokens = TokenSource(self.issue_token)

    @functools.cached_property
    def channel(self) -> grpc.aio.Channel:
        """Opened by the first call, in the loop of that call."""
        options: list[tuple[str, Any]] = list(_OPTIONS)
        if self._loopback:
            # gRPC would obey http_proxy even for this machine.
            options.append(("grpc.enable_http_proxy", 0))
        if self._secure:
            credentials = grpc.ssl_channel_credentials(self._root_certificates)
            return grpc.aio.secure_channel(self._target, credentials, options=options)
        return grpc.aio.insecure_channel(self._target, options=options)

    async def close(self) -> None:
        """Ends all calls and the connection."""
        if "channel" in self.__dict__:
            await self.channel.close()

    async def issue_token(self) -> IssueTokenResponse:
        """A fresh token for the API key. Raises UnauthenticatedError API_KEY_INVALID."""
        stub = TokenServiceStub(self.channel)
        return await self._retrying(stub.IssueToken, IssueTokenRequest(api_key=self._api_key), authenticated=False)

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        retry: bool = True,
        timeout_s: float | None = None,
    ) -> Response:
        """A unary call. `retry=False` where a second try could do it twice. Raises HearthError."""
        return await self._retrying(method, request, retry=retry, timeout_s=timeout_s)

    async def stream(
        self, method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request
    ) -> AsyncGenerator[Response, None]:
        """The responses of one stream, without a deadline; closing it ends the call. Raises HearthError. The only failure that it tries
        again is a token that was refused as expired before anything came.
        """
        refused = ""
        begun = False
        while True:
            token = await self.tokens.get(refused=refused)
            async with aclosing(self._responses(method, request, token)) as responses:
                try:
                    async for response in responses:
                        begun = True
                        yield response
                    return
                except UnauthenticatedError as error:
                    if error.reason != "TOKEN_EXPIRED" or refused or begun:
                        raise
            refused = token

    async def upload(
        self, method: grpc.aio.StreamUnaryMultiCallable[Request, Response], requests: AsyncIterator[Request]
    ) -> Response:
        """The answer to a stream of requests, without a deadline. Raises HearthError."""
        try:
            return await method(requests, metadata=_authorization(await self.tokens.get()))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def exchange(
        self, method: grpc.aio.StreamStreamMultiCallable[Request, Response], requests: AsyncIterator[Request]
    ) -> AsyncGenerator[Response, None]:
        """A stream on which each request is answered before the next is sent, without a deadline. Raises HearthError."""
        call = method(metadata=_authorization(await self.tokens.get()))
        try:
            async for request in requests:
                await call.write(request)
                response = await call.read()
                if response is grpc.aio.EOF:
                    break
                yield cast("Response", response)
            await call.done_writing()
            await call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()

    async def _responses(
        self, method: grpc.aio.UnaryStreamMultiCallable[Request, Response], request: Request, token: str
    ) -> AsyncGenerator[Response, None]:
        call = method(request, metadata=_authorization(token))
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        finally:
            call.cancel()

    async def _retrying(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        retry: bool = True,
        authenticated: bool = True,
        timeout_s: float | None = None,
    ) -> Response:
        backoff = Backoff(self.retry_for_s if retry else 0.0)
        refused = ""
        while True:
            token = await self.tokens.get(refused=refused) if authenticated else ""
            try:
                return await method(request, timeout=timeout_s or self._timeout_s, metadata=_authorization(token))
            except grpc.aio.AioRpcError as rpc_error:
                error = from_rpc_error(rpc_error)
            if isinstance(error, UnauthenticatedError) and error.reason == "TOKEN_EXPIRED" and token and not refused:
                refused = token
            elif not isinstance(error, UnavailableError) or not await backoff.pause(error.retry_after_s):
                raise error


def _authorization(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


def _parse(url: str) -> tuple[str, bool, bool]:
    """Target, whether TLS, whether this machine."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not the address of a Hearth: {url!r}; it looks like http://127.0.0.1:8080")
    if parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise ValueError(f"the address of a Hearth has no path, query or user: {url!r}")
    secure = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or (443 if secure else 80)}", secure, parts.hostname in _LOOPBACK
