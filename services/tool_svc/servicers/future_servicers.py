"""Services of the API that this version does not have.

MCP servers and secrets come together with the egress proxy and the encryption at rest that they need. Until then every
method answers UNIMPLEMENTED NOT_IMPLEMENTED, and tools that ask for secrets or the network are refused when they are
made: better no secret store than one that keeps them badly.
"""

from typing import Any

from chassis.errors import Unimplemented, not_implemented
from hearth.tool.v1 import mcp_server_service_pb2 as mcp_pb
from hearth.tool.v1 import secret_service_pb2 as secret_pb
from hearth.tool.v1.mcp_server_service_pb2_grpc import McpServerServiceServicer
from hearth.tool.v1.secret_service_pb2_grpc import SecretServiceServicer


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


class SecretServicer(SecretServiceServicer):
    """Answers that secrets cannot be kept yet."""

    async def SetSecret(self, request: secret_pb.SetSecretRequest, context: Any) -> secret_pb.SetSecretResponse:
        raise _secrets()

    async def ListSecrets(self, request: secret_pb.ListSecretsRequest, context: Any) -> secret_pb.ListSecretsResponse:
        raise _secrets()

    async def DeleteSecret(
        self, request: secret_pb.DeleteSecretRequest, context: Any
    ) -> secret_pb.DeleteSecretResponse:
        raise _secrets()


def _mcp() -> Unimplemented:
    return not_implemented("tools of MCP servers")


def _secrets() -> Unimplemented:
    return not_implemented("secrets of tools")
