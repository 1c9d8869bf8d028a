"""MCP servers whose tools agents may call."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from hearth.tool.v1.mcp_server_pb2 import McpServer
from hearth.tool.v1.mcp_server_service_pb2 import (
    CreateMcpServerRequest,
    DeleteMcpServerRequest,
    GetMcpServerRequest,
    ListMcpServersRequest,
    SyncMcpServerRequest,
    SyncMcpServerResponse,
    UpdateMcpServerRequest,
)
from hearth.tool.v1.mcp_server_service_pb2_grpc import McpServerServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.tool.v1.mcp_server_service_pb2_grpc import McpServerServiceAsyncStub


class McpServers:
    """`client.mcp_servers`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> McpServerServiceAsyncStub:
        return McpServerServiceStub(self._connection.channel)

    async def create(
        self,
        name: str,
        *,
        url: str = "",
        command: Sequence[str] = (),
        header_secrets: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        timeout_s: float = 0,
        request_id: str = "",
    ) -> McpServer:
        """Registers a server: by `url` on streamable HTTP, by `command` on stdio where the operator allows that. `sync` fetches its tools.

        `header_secrets`: header → name of the secret that is its value; `secrets`: names of those that a command gets as
        environment variables. Raises AlreadyExistsError NAME_TAKEN, FailedPreconditionError MCP_TRANSPORT_DISABLED.
        """
        server = McpServer(
            name=name,
            url=url,
            command=command,
            header_secrets=header_secrets,
            secrets=secrets,
            timeout_ms=int(timeout_s * 1000),
        )
        request = CreateMcpServerRequest(request_id=request_id or new_request_id(), mcp_server=server)
        return (await self._connection.call(self._stub.CreateMcpServer, request)).mcp_server

    async def get(self, mcp_server_id: str) -> McpServer:
        """Raises NotFoundError."""
        request = GetMcpServerRequest(mcp_server_id=mcp_server_id)
        return (await self._connection.call(self._stub.GetMcpServer, request)).mcp_server

    def list(self, *, page_size: int = 0) -> AsyncIterator[McpServer]:
        """By name."""

        async def fetch(token: str) -> tuple[Sequence[McpServer], str]:
            request = ListMcpServersRequest(page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListMcpServers, request)
            return response.mcp_servers, response.next_page_token

        return pages(fetch)

    async def update(self, mcp_server: McpServer, *paths: str) -> McpServer:
        """Changes the fields named by `paths`. Raises AbortedError ETAG_MISMATCH if its etag is set and stale."""
        request = UpdateMcpServerRequest(mcp_server=mcp_server, update_mask=FieldMask(paths=paths))
        return (await self._connection.call(self._stub.UpdateMcpServer, request)).mcp_server

    async def delete(self, mcp_server_id: str) -> None:
        """Removes a server and its tools. Twice is fine."""
        await self._connection.call(self._stub.DeleteMcpServer, DeleteMcpServerRequest(mcp_server_id=mcp_server_id))

    async def sync(self, mcp_server_id: str) -> SyncMcpServerResponse:
        """Reads the server's tools into the organization; says what changed, and what was refused and why.
        Raises FailedPreconditionError MCP_SERVER_FAILED.
        """
        request = SyncMcpServerRequest(mcp_server_id=mcp_server_id)
        return await self._connection.call(self._stub.SyncMcpServer, request)


class BlockingMcpServers(BlockingFace[McpServers]):
    """`client.mcp_servers`, blocking."""

    create = call(McpServers.create)
    get = call(McpServers.get)
    list = iterate(McpServers.list)
    update = call(McpServers.update)
    delete = call(McpServers.delete)
    sync = call(McpServers.sync)
