"""The official SDK behind `Session`. The only module, with its transports, that imports it: import it late."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError

from tool_svc.adapters.mcp.budget import Budget
from tool_svc.adapters.mcp.connection import OnFailure
from tool_svc.adapters.mcp.http import open_client
from tool_svc.adapters.mcp.settings import McpSettings
from tool_svc.adapters.mcp.stdio import StdioProcesses
from tool_svc.domain.mcp_server import McpServer, McpTransport
from tool_svc.interfaces.mcp import McpFailed, RemoteResult

# What these say of hostile input, line by line and with its text, nobody needs.
for _name in ("mcp", "client", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_HANDSHAKE_S = 20.0
_CLIENT = types.Implementation(name="hearth", version="1")
_MAX_SHOWN = 500
# What the SDK makes of the 404 that a server answers when it has forgotten the session: nothing was done.
_SESSION_LOST = (types.INVALID_REQUEST, "Session terminated")


class SdkSession:
    """A session of the SDK's."""

    def __init__(self, session: ClientSession, dispatcher: JSONRPCDispatcher[Any]) -> None:
        self._session = session
        self._dispatcher = dispatcher

    async def list_page(self, cursor: str | None) -> dict[str, Any]:
        # Raw: the SDK would refuse the whole page for one tool that is not as it should be.
        with _Translated():
            return await self._dispatcher.send_raw_request("tools/list", {"cursor": cursor} if cursor else None)

    async def call_tool(self, name: str, arguments: dict[str, Any], on_progress: Any) -> types.CallToolResult:
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
        # Not its own `call_tool`, which checks results against schemas of the server's, regular expressions included.
        with _Translated():
            return await self._session.send_request(request, types.CallToolResult, progress_callback=on_progress)


class ToolRefused(Exception):
    """The server answered a call with an error of its own."""


class _Translated:
    """The SDK's exceptions as ours."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        if isinstance(error, MCPError):
            if error.code in (types.CONNECTION_CLOSED, types.PARSE_ERROR, types.REQUEST_TIMEOUT):
                raise McpFailed("it broke off, or its answer cannot be read", begun=True) from error
            if (error.code, error.message) == _SESSION_LOST:
                raise McpFailed("it no longer knows the session") from error
            raise ToolRefused(error.message[:_MAX_SHOWN]) from error
        if isinstance(error, ValidationError | RuntimeError | ValueError | TypeError):
            raise McpFailed("its answer does not keep to the protocol", begun=True) from error


def result_of(result: types.CallToolResult) -> RemoteResult:
    """What a call gave, as plain values. Of pictures and sounds only what they are: a model's text cannot hold them."""
    texts = [block.text for block in result.content if isinstance(block, types.TextContent)]
    if result.is_error:
        return RemoteResult(None, is_error=True, error_text="\n".join(texts))
    if result.structured_content is not None:
        return RemoteResult(result.structured_content, is_error=False)
    if len(texts) == len(result.content):
        return RemoteResult("\n".join(texts), is_error=False)
    return RemoteResult([_plain(block) for block in result.content], is_error=False)


def _plain(block: types.ContentBlock) -> dict[str, Any]:
    plain = block.model_dump(mode="json", by_alias=True, include={"type", "text", "mime_type", "uri", "name", "title"})
    if isinstance(block, types.ImageContent | types.AudioContent):
        plain["base64_characters"] = len(block.data)
    if isinstance(block, types.EmbeddedResource):
        resource = block.resource
        plain["uri"] = str(resource.uri)
        plain |= {"text": resource.text} if isinstance(resource, types.TextResourceContents) else {"binary": True}
    return {key: value for key, value in plain.items() if value is not None}


@asynccontextmanager
async def open_session(
    server: McpServer,
    secrets: Mapping[str, str],
    settings: McpSettings,
    processes: StdioProcesses,
    budget: Budget,
    on_failure: OnFailure,
) -> AsyncGenerator[SdkSession]:
    """Connects and shakes hands. Raises McpFailed."""
    connection = server.connection
    if connection.transport is McpTransport.STDIO:
        environment = {name: secrets[name] for name in connection.secrets}
        streams = processes.open(connection.command, environment, budget, on_failure)
    else:
        streams = _http_streams(server, secrets, settings, budget, on_failure)
    async with streams as (read, write):
        dispatcher: JSONRPCDispatcher[Any] = JSONRPCDispatcher(read, write)
        async with ClientSession(dispatcher=dispatcher, client_info=_CLIENT) as session:
            await _shake_hands(session)
            yield SdkSession(session, dispatcher)


async def _shake_hands(session: ClientSession) -> None:
    try:
        async with asyncio.timeout(_HANDSHAKE_S):
            with _Translated():
                answer = await session.initialize()
    except TimeoutError:
        raise McpFailed(f"it did not answer the handshake within {_HANDSHAKE_S:g} s") from None
    except ToolRefused as refused:
        raise McpFailed(f"it refused the handshake: {refused}") from refused
    if answer.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise McpFailed("it speaks no version of the protocol that is known here")


@asynccontextmanager
async def _http_streams(
    server: McpServer, secrets: Mapping[str, str], settings: McpSettings, budget: Budget, on_failure: OnFailure
) -> AsyncGenerator[Any]:
    connection = server.connection
    headers = {name: _header(name, secret, secrets[secret]) for name, secret in connection.header_secrets.items()}
    async with (
        open_client(headers, settings.allowed_networks, budget, settings.max_message, on_failure) as client,
        streamable_http_client(connection.url, http_client=client, max_sse_event_size=settings.max_message) as streams,
    ):
        yield streams


def _header(header: str, secret: str, value: str) -> str:
    value = value.strip()
    if not (value.isascii() and value.isprintable()):
        raise McpFailed(f"the secret {secret} cannot be the value of a header")
    is_token_alone = header.lower() == "authorization" and " " not in value
    return f"Bearer {value}" if is_token_alone else value
