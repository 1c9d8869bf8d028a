"""The rows of tool_svc."""

from collections.abc import Mapping

from google.protobuf.message import Message

from hearth.tool.internal.v1 import usage_service_pb2 as usage
from hearth.tool.v1 import mcp_server_service_pb2 as mcp
from hearth.tool.v1 import secret_service_pb2 as secret
from hearth.tool.v1 import tool_execution_service_pb2 as execution
from hearth.tool.v1 import tool_service_pb2 as tool
from tests.contract.tenancy.cases import Case, hidden, own, same
from tests.contract.tenancy.tenants import Names


def _tool(their: Names, own: Names) -> Message:
    request = tool.UpdateToolRequest()
    request.tool.id, request.tool.description = their.tool, "changed"
    request.update_mask.paths.append("description")
    return request


def _tool_spec(name: str) -> tool.ToolSpec:
    return tool.ToolSpec(source_code=f'def {name}() -> str:\n    """Answer."""\n    return "{name}"\n')


def _mcp(their: Names, own: Names) -> Message:
    request = mcp.UpdateMcpServerRequest()
    request.mcp_server.id, request.mcp_server.url = their.mcp_server, "http://192.0.2.1/changed"
    request.update_mask.paths.append("url")
    return request


def _new_mcp(their: Names, own: Names) -> Message:
    request = mcp.CreateMcpServerRequest()
    request.request_id = their.request_id
    request.mcp_server.name, request.mcp_server.url = "twin", "http://192.0.2.1/"
    return request


TOOL: Mapping[str, tuple[Case, ...]] = {
    "McpServerService/CreateMcpServer": (own(_new_mcp),),
    "McpServerService/GetMcpServer": (
        hidden(lambda their, own: mcp.GetMcpServerRequest(mcp_server_id=their.mcp_server)),
    ),
    "McpServerService/ListMcpServers": (own(lambda their, own: mcp.ListMcpServersRequest()),),
    "McpServerService/UpdateMcpServer": (hidden(_mcp),),
    "McpServerService/DeleteMcpServer": (
        hidden(lambda their, own: mcp.DeleteMcpServerRequest(mcp_server_id=their.mcp_server)),
    ),
    # Nothing answers at a tenant's server.
    "McpServerService/SyncMcpServer": (
        hidden(lambda their, own: mcp.SyncMcpServerRequest(mcp_server_id=their.mcp_server), "FAILED_PRECONDITION"),
    ),
    "SecretService/SetSecret": (
        own(lambda their, own: secret.SetSecretRequest(name=their.word.upper(), value="changed")),
    ),
    "SecretService/ListSecrets": (own(lambda their, own: secret.ListSecretsRequest()),),
    "SecretService/DeleteSecret": (own(lambda their, own: secret.DeleteSecretRequest(name=their.word.upper())),),
    "ToolExecutionService/ExecuteTool": (
        hidden(lambda their, own: execution.ExecuteToolRequest(tool_id=their.tool)),
        hidden(lambda their, own: execution.ExecuteToolRequest(name=their.tool_name)),
    ),
    "ToolService/CreateTool": (
        own(lambda their, own: tool.CreateToolRequest(request_id=their.request_id, tool=_tool_spec("twin"))),
    ),
    "ToolService/UpsertTool": (
        own(lambda their, own: tool.UpsertToolRequest(request_id=their.request_id, tool=_tool_spec("upserted"))),
        own(lambda their, own: tool.UpsertToolRequest(tool=_tool_spec(f"other_{their.word}"))),
    ),
    "ToolService/GetTool": (
        hidden(lambda their, own: tool.GetToolRequest(tool_id=their.tool)),
        hidden(lambda their, own: tool.GetToolRequest(name=their.tool_name)),
    ),
    "ToolService/ListTools": (
        same(lambda their, own: tool.ListToolsRequest(tool_ids=[their.tool])),
        same(lambda their, own: tool.ListToolsRequest(tags=[their.word])),
        same(lambda their, own: tool.ListToolsRequest(name_prefix=their.tool_name)),
        own(lambda their, own: tool.ListToolsRequest()),
    ),
    "ToolService/UpdateTool": (hidden(_tool),),
    "ToolService/DeleteTool": (hidden(lambda their, own: tool.DeleteToolRequest(tool_id=their.tool)),),
    "ToolService/ListToolVersions": (hidden(lambda their, own: tool.ListToolVersionsRequest(tool_id=their.tool)),),
    "ToolService/DeriveToolSchema": (
        own(lambda their, own: tool.DeriveToolSchemaRequest(source_code=_tool_spec("derived").source_code)),
    ),
}

TOOL_INTERNAL: Mapping[str, tuple[Case, ...]] = {
    "UsageService/GetUsage": (own(lambda their, own: usage.GetUsageRequest()),),
}
