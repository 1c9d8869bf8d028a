"""Services of the API that this version does not have.

Every method answers UNIMPLEMENTED NOT_IMPLEMENTED.
"""

from typing import Any

from chassis.errors import Unimplemented, not_implemented
from hearth.tool.v1 import mcp_server_service_pb2 as mcp_pb
from hearth.tool.v1.mcp_server_service_pb2_grpc import McpServerServiceServicer


class McpServerServicer(McpServerServiceServicer):
    """Answers that tools of MCP servers cannot be used yet."""

    async def CreateMcpServer(
        self, request: mcp_pb.CreateMcpServerRequest, context: Any
    ) -> mcp_pb.CreateMcpServerResponse:
        raise _mcp()

    async def GetMcpServer(self, request: mcp_pb.GetMcpServerRequest, context: Any) -> mcp_pb.GetMcpServerResponse:
        raise _mcp()

    async def ListMcpServers(
        self, request: mcp_pb.ListMcpServersRequest, context: Any
    ) -> mcp_pb.ListMcpServersResponse:
        raise _mcp()

    async def UpdateMcpServer(
        self, request: mcp_pb.UpdateMcpServerRequest, context: Any
    ) -> mcp_pb.UpdateMcpServerResponse:
        raise _mcp()

    async def DeleteMcpServer(
        self, request: mcp_pb.DeleteMcpServerRequest, context: Any
    ) -> mcp_pb.DeleteMcpServerResponse:
        raise _mcp()

    async def SyncMcpServer(self, request: mcp_pb.SyncMcpServerRequest, context: Any) -> mcp_pb.SyncMcpServerResponse:
        raise _mcp()


def _mcp() -> Unimplemented:
    return not_implemented("tools of MCP servers")
