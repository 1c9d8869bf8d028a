"""Puts tool_svc together. The only file that knows every class."""

import asyncio

from chassis.audit.stream import AuditStream
from chassis.audit.trail import AuditTrail
from chassis.channels import open_channel
from chassis.database import Database
from chassis.nats_connection import NatsConnection
from chassis.pagination import PageTokens
from chassis.purge import Purger
from chassis.server import Assembly
from chassis.trust import trust
from hearth.tool.internal.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from hearth.tool.v1.mcp_server_service_pb2_grpc import add_McpServerServiceServicer_to_server
from hearth.tool.v1.secret_service_pb2_grpc import add_SecretServiceServicer_to_server
from hearth.tool.v1.tool_execution_service_pb2_grpc import add_ToolExecutionServiceServicer_to_server
from hearth.tool.v1.tool_service_pb2_grpc import add_ToolServiceServicer_to_server
from tool_svc.adapters.egress.proxy import EgressProxy
from tool_svc.adapters.mcp.client import McpConnections
from tool_svc.adapters.sandbox.pool import SandboxPool
from tool_svc.adapters.stored_secrets import StoredSecrets
from tool_svc.adapters.vault import EnvelopeVault, MasterKeyWrapper
from tool_svc.managers.call_quota import CallQuota
from tool_svc.managers.ceilings import Ceilings
from tool_svc.managers.execution_manager import ExecutionManager
from tool_svc.managers.mcp_executor import McpExecutor
from tool_svc.managers.mcp_server_manager import McpServerManager
from tool_svc.managers.sandbox_executor import SandboxExecutor
from tool_svc.managers.secret_manager import SecretManager
from tool_svc.managers.tool_manager import ToolManager
from tool_svc.repositories.call_counts import PostgresCallCounts
from tool_svc.repositories.call_reader import PostgresCallReader
from tool_svc.repositories.unit_of_work import PostgresUnitOfWork
from tool_svc.servicers.mcp_server_servicer import McpServerServicer
from tool_svc.servicers.secret_servicer import SecretServicer
from tool_svc.servicers.tool_execution_servicer import ToolExecutionServicer
from tool_svc.servicers.tool_servicer import ToolServicer
from tool_svc.servicers.usage_servicer import UsageServicer
from tool_svc.settings import ToolServiceSettings


async def build(settings: ToolServiceSettings) -> Assembly:
    """Everything that serves. The sandbox starts first: where tools cannot be confined, nothing serves.

    Raises ValueError for settings that cannot be right, SandboxUnavailable.
    """
    pages = PageTokens(settings.derived_key("page-tokens"))
    users = open_channel(settings.user_svc_address)
    trusted = trust(users, settings)
    vault = EnvelopeVault(MasterKeyWrapper(settings.secret_keys()))
    packages = await asyncio.to_thread(settings.packages)
    sandbox = SandboxPool(settings.pool(), EgressProxy(settings.egress()))
    await sandbox.start()
    database = Database(
        settings.database_url.get_secret_value(),
        application_name="tool_svc",
        pool_size=settings.database_pool_size,
    )
    nats = NatsConnection(settings.nats_url.get_secret_value(), "tool_svc")
    work = PostgresUnitOfWork(database)
    ceilings = Ceilings(settings.ceiling(), trusted.limits)
    tools = ToolServicer(ToolManager(work, packages, ceilings), pages)
    secrets = SecretServicer(SecretManager(work, vault), pages)
    reader = PostgresCallReader(database)
    values = StoredSecrets(reader, vault)
    remote = McpConnections(settings.mcp())
    servers = McpServerManager(work, remote, values, settings.mcp_max_servers)
    quota = CallQuota(PostgresCallCounts(database), trusted.limits)
    local = SandboxExecutor(values, packages, sandbox, settings.turns())
    calls = ExecutionManager(reader, quota, local, McpExecutor(work, remote, values), ceilings)
    executions = ToolExecutionServicer(calls)
    await nats.open()
    return Assembly(
        servicers=[
            (add_ToolServiceServicer_to_server, tools, "hearth.tool.v1.ToolService"),
            (add_ToolExecutionServiceServicer_to_server, executions, "hearth.tool.v1.ToolExecutionService"),
            (
                add_McpServerServiceServicer_to_server,
                McpServerServicer(servers, pages),
                "hearth.tool.v1.McpServerService",
            ),
            (add_SecretServiceServicer_to_server, secrets, "hearth.tool.v1.SecretService"),
            (add_UsageServiceServicer_to_server, UsageServicer(quota), "hearth.tool.internal.v1.UsageService"),
        ],
        verifier=trusted.verifier,
        audit=AuditTrail(database, AuditStream(nats, "tool_svc")),
        background=[trusted.revocations, trusted.limits, Purger(trusted.purges, database)],
        # Not background work: the sandbox and the connections end after the calls that still run in them.
        closers=[database.close, nats.close, users.close, packages.close, sandbox.stop, remote.stop],
        limits=trusted.limits,
    )
