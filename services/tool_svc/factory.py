"""Puts tool_svc together. The only file that knows every class."""

from chassis.channels import open_channel
from chassis.database import Database
from chassis.pagination import PageTokens
from chassis.server import Assembly
from chassis.trust import trust
from hearth.tool.v1.mcp_server_service_pb2_grpc import add_McpServerServiceServicer_to_server
from hearth.tool.v1.secret_service_pb2_grpc import add_SecretServiceServicer_to_server
from hearth.tool.v1.tool_execution_service_pb2_grpc import add_ToolExecutionServiceServicer_to_server
from hearth.tool.v1.tool_service_pb2_grpc import add_ToolServiceServicer_to_server
from tool_svc.adapters.mcp.client import McpConnections
from tool_svc.adapters.no_secrets import NoSecrets
from tool_svc.adapters.sandbox.pool import SandboxPool
from tool_svc.managers.execution_manager import ExecutionManager
from tool_svc.managers.mcp_executor import McpExecutor
from tool_svc.managers.mcp_server_manager import McpServerManager
from tool_svc.managers.tool_manager import ToolManager
from tool_svc.repositories.unit_of_work import PostgresUnitOfWork
from tool_svc.servicers.future_servicers import SecretServicer
from tool_svc.servicers.mcp_server_servicer import McpServerServicer
from tool_svc.servicers.tool_execution_servicer import ToolExecutionServicer
from tool_svc.servicers.tool_servicer import ToolServicer
from tool_svc.settings import ToolServiceSettings


async def build(settings: ToolServiceSettings) -> Assembly:
    """Everything that serves. The sandbox starts first: where tools cannot be confined, nothing serves.

    Raises ValueError for settings that cannot be right, SandboxUnavailable.
    """
    pages = PageTokens(settings.derived_key("page-tokens"))
    users = open_channel(settings.user_svc_address)
    trusted = trust(users, settings)
    sandbox = SandboxPool(settings.pool())
    await sandbox.start()
    database = Database(
        settings.database_url.get_secret_value(),
        application_name="tool_svc",
        pool_size=settings.database_pool_size,
    )
    work = PostgresUnitOfWork(database)
    tools = ToolServicer(ToolManager(work), pages)
    remote = McpConnections(settings.mcp())
    secrets = NoSecrets()
    servers = McpServerManager(work, remote, secrets, settings.mcp_max_servers)
    calls = ExecutionManager(work, sandbox, settings.ceiling(), McpExecutor(work, remote, secrets))
    executions = ToolExecutionServicer(calls)
    return Assembly(
        servicers=[
            (add_ToolServiceServicer_to_server, tools, "hearth.tool.v1.ToolService"),
            (add_ToolExecutionServiceServicer_to_server, executions, "hearth.tool.v1.ToolExecutionService"),
            (
                add_McpServerServiceServicer_to_server,
                McpServerServicer(servers, pages),
                "hearth.tool.v1.McpServerService",
            ),
            (add_SecretServiceServicer_to_server, SecretServicer(), "hearth.tool.v1.SecretService"),
        ],
        verifier=trusted.verifier,
        background=[trusted.revocations],
        # Not background work: the sandbox and the connections end after the calls that still run in them.
        closers=[database.close, users.close, sandbox.stop, remote.stop],
    )
