"""McpServerService on the wire."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from chassis import ids
from chassis.errors import invalid_field
from chassis.idempotency import Once, request_key
from chassis.identity import current
from chassis.pagination import PageTokens, fingerprint, page_size
from hearth.tool.v1 import mcp_server_pb2
from hearth.tool.v1 import mcp_server_service_pb2 as pb
from hearth.tool.v1.mcp_server_service_pb2_grpc import McpServerServiceServicer
from tool_svc.domain.mcp_server import McpConnection, McpServer, McpTransport
from tool_svc.managers.mcp_server_manager import McpServerManager
from tool_svc.servicers.structs import clean


class McpServerServicer(McpServerServiceServicer):
    """Messages in, messages out."""

    def __init__(self, servers: McpServerManager, pages: PageTokens) -> None:
        self._servers = servers
        self._pages = pages

    async def CreateMcpServer(self, request: pb.CreateMcpServerRequest, context: Any) -> pb.CreateMcpServerResponse:
        once: Once[McpServer] = Once(request_key(request), lambda made: _created(made).SerializeToString())
        connection = _connection(request.mcp_server)
        return _created(await self._servers.create(current(), request.mcp_server.name, connection, once))

    async def GetMcpServer(self, request: pb.GetMcpServerRequest, context: Any) -> pb.GetMcpServerResponse:
        server = await self._servers.get(current(), ids.decode("mcp", request.mcp_server_id))
        return pb.GetMcpServerResponse(mcp_server=_to_proto(server))

    async def ListMcpServers(self, request: pb.ListMcpServersRequest, context: Any) -> pb.ListMcpServersResponse:
        caller = current()
        query = fingerprint(request, caller.organization_id)
        position = self._pages.verify(request.page_token, query)
        after = None if position is None else str(position[0])
        found, more = await self._servers.page(caller, after, page_size(request.page_size))
        return pb.ListMcpServersResponse(
            mcp_servers=[_to_proto(server) for server in found],
            next_page_token=self._pages.sign(query, [found[-1].name]) if more else "",
        )

    async def UpdateMcpServer(self, request: pb.UpdateMcpServerRequest, context: Any) -> pb.UpdateMcpServerResponse:
        server_id = ids.decode("mcp", request.mcp_server.id)
        changes = _changes(request.mcp_server, request.update_mask.paths)
        changed = await self._servers.update(current(), server_id, changes, request.mcp_server.etag)
        return pb.UpdateMcpServerResponse(mcp_server=_to_proto(changed))

    async def DeleteMcpServer(self, request: pb.DeleteMcpServerRequest, context: Any) -> pb.DeleteMcpServerResponse:
        await self._servers.delete(current(), ids.decode("mcp", request.mcp_server_id))
        return pb.DeleteMcpServerResponse()

    async def SyncMcpServer(self, request: pb.SyncMcpServerRequest, context: Any) -> pb.SyncMcpServerResponse:
        synced = await self._servers.sync(current(), ids.decode("mcp", request.mcp_server_id))
        return pb.SyncMcpServerResponse(
            mcp_server=_to_proto(synced.server),
            added=synced.added,
            updated=synced.updated,
            removed=synced.removed,
            refused=[pb.McpToolRefusal(name=one.name, problem=clean(one.problem)) for one in synced.refused],
        )


def _created(server: McpServer) -> pb.CreateMcpServerResponse:
    return pb.CreateMcpServerResponse(mcp_server=_to_proto(server))


def _connection(message: mcp_server_pb2.McpServer) -> McpConnection:
    """How a server is reached; without a transport it is the one that the other fields are for."""
    transport = message.transport or (
        mcp_server_pb2.MCP_TRANSPORT_STDIO if message.command else mcp_server_pb2.MCP_TRANSPORT_STREAMABLE_HTTP
    )
    try:
        known = McpTransport(transport)
    except ValueError:
        raise invalid_field("mcp_server.transport", "is none that this server knows") from None
    return McpConnection(
        transport=known,
        url=message.url,
        command=tuple(message.command),
        header_secrets=dict(message.header_secrets),
        secrets=tuple(message.secrets),
        timeout_ms=message.timeout_ms,
    )


def _changes(message: mcp_server_pb2.McpServer, paths: Collection[str]) -> dict[str, Any]:
    """The fields named by the mask, as fields of a connection. Raises InvalidArgument."""
    if "transport" in paths and not message.transport:
        raise invalid_field("mcp_server.transport", "must be set when the mask names it")
    given = _connection(message)
    return {path: getattr(given, path) for path in paths}


def _to_proto(server: McpServer) -> mcp_server_pb2.McpServer:
    connection = server.connection
    return mcp_server_pb2.McpServer(
        id=ids.encode("mcp", server.id),
        organization_id=ids.encode("org", server.organization_id),
        name=server.name,
        transport=mcp_server_pb2.McpTransport.ValueType(connection.transport.value),
        url=connection.url,
        command=connection.command,
        header_secrets=connection.header_secrets,
        secrets=connection.secrets,
        timeout_ms=connection.timeout_ms,
        sync_time=None if server.sync_time is None else _timestamp(server.sync_time),
        sync_error=clean(server.sync_error),
        create_time=_timestamp(server.create_time),
        update_time=_timestamp(server.update_time),
        etag=server.etag,
    )


def _timestamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result
