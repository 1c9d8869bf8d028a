"""Puts agent_svc together. The only file that knows every class."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agent_svc.adapters.models import ModelSettings, catalog_from_settings
from agent_svc.adapters.nats_bus import NatsBus
from agent_svc.clients.memory_client import MemoryClient
from agent_svc.clients.tool_client import ToolClient
from agent_svc.clients.tool_library import ToolLibraryClient
from agent_svc.interfaces.agent_specs import AgentSpecs
from agent_svc.interfaces.approvals import ApprovalLog
from agent_svc.interfaces.event_bus import EventBus
from agent_svc.interfaces.event_codec import EventCodec
from agent_svc.interfaces.identities import Identities
from agent_svc.interfaces.memory import AgentBlocks, AgentMemory, ContextCompiler, RecallIndex
from agent_svc.interfaces.model_provider import ModelCatalog
from agent_svc.interfaces.run_log import EventLog, IndexLog, RunLog
from agent_svc.interfaces.tools import ToolCatalog, ToolExecutor, ToolLibrary
from agent_svc.interfaces.unit_of_work import UnitOfWork
from agent_svc.managers.agent_factory import AgentFactory
from agent_svc.managers.agent_manager import AgentManager
from agent_svc.managers.answers import Answers
from agent_svc.managers.approval_manager import ApprovalManager
from agent_svc.managers.caches import AgentCache, DefaultConversations, HistoryCache, ToolCache
from agent_svc.managers.compactor import Compactor
from agent_svc.managers.conversation_manager import ConversationManager
from agent_svc.managers.export_manager import ExportManager
from agent_svc.managers.hub import Hub
from agent_svc.managers.indexer import Indexer
from agent_svc.managers.input_check import InputCheck
from agent_svc.managers.lease import LeaseKeeper
from agent_svc.managers.live_runs import LiveRuns
from agent_svc.managers.loop import RunLoop
from agent_svc.managers.memory_tools import MemoryToolRunner
from agent_svc.managers.model_choice import ModelChoice
from agent_svc.managers.model_step import ModelStep
from agent_svc.managers.patience import Patience
from agent_svc.managers.rulings import Rulings
from agent_svc.managers.run_manager import RunManager
from agent_svc.managers.run_writer import RunWriter
from agent_svc.managers.sweep import Sweep
from agent_svc.managers.template_manager import TemplateManager
from agent_svc.managers.tool_runner import ToolRunner
from agent_svc.managers.watch_manager import WatchManager
from agent_svc.managers.worker import HISTORY_TOKENS, Worker
from agent_svc.repositories.approval_log import PostgresApprovalLog
from agent_svc.repositories.event_log import PostgresEventLog, PostgresIndexLog
from agent_svc.repositories.log_pool import LogPool
from agent_svc.repositories.run_log import PostgresRunLog
from agent_svc.repositories.unit_of_work import PostgresUnitOfWork
from agent_svc.servicers.agent_servicer import AgentServicer
from agent_svc.servicers.agent_specs import ProtobufAgentSpecs
from agent_svc.servicers.conversation_servicer import ConversationServicer
from agent_svc.servicers.event_codec import ProtobufEventCodec
from agent_svc.servicers.model_servicer import ModelServicer
from agent_svc.servicers.run_servicer import RunServicer
from agent_svc.servicers.template_servicer import TemplateServicer
from agent_svc.servicers.usage_servicer import UsageServicer
from agent_svc.servicers.watch_stream import TokenCheck
from agent_svc.settings import AgentSettings
from chassis import ids
from chassis.audit.stream import AuditStream
from chassis.audit.trail import AuditTrail
from chassis.channels import open_channel
from chassis.database import Database
from chassis.limits import Limits, NoLimits
from chassis.nats_connection import NatsConnection
from chassis.pagination import PageTokens
from chassis.purge import Purger
from chassis.revocations import NothingRevoked, Revocations
from chassis.server import Assembly
from chassis.trust import trust
from hearth.agent.internal.v1.usage_service_pb2_grpc import add_UsageServiceServicer_to_server
from hearth.agent.v1.agent_service_pb2_grpc import add_AgentServiceServicer_to_server
from hearth.agent.v1.conversation_service_pb2_grpc import add_ConversationServiceServicer_to_server
from hearth.agent.v1.file_service_pb2_grpc import FileServiceServicer, add_FileServiceServicer_to_server
from hearth.agent.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from hearth.agent.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from hearth.agent.v1.template_service_pb2_grpc import add_TemplateServiceServicer_to_server
from hearth.agent.v1.workflow_service_pb2_grpc import (
    WorkflowServiceServicer,
    add_WorkflowServiceServicer_to_server,
)

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Memory:
    """memory_svc by its roles; one client has them all."""

    compiler: ContextCompiler
    agent_memory: AgentMemory
    blocks: AgentBlocks
    index: RecallIndex


@dataclass(frozen=True, slots=True)
class Outside:
    """What the core needs from outside of this process: real in `build`, partly replaced in tests."""

    log: RunLog
    event_log: EventLog
    index_log: IndexLog
    approvals: ApprovalLog
    work: UnitOfWork
    bus: EventBus
    codec: EventCodec
    models: ModelCatalog
    memory: Memory
    tool_catalog: ToolCatalog
    tool_executor: ToolExecutor
    tool_library: ToolLibrary
    identities: Identities
    revocations: Revocations = field(default_factory=NothingRevoked)
    limits: Limits = field(default_factory=NoLimits)
    specs: AgentSpecs = field(default_factory=ProtobufAgentSpecs)


@dataclass(frozen=True, slots=True)
class Core:
    """The managers, wired."""

    hub: Hub
    runs: RunManager
    watching: WatchManager
    inputs: InputCheck
    approvals: ApprovalManager
    agents: AgentManager
    factory: AgentFactory
    exports: ExportManager
    templates: TemplateManager
    conversations: ConversationManager
    leases: LeaseKeeper
    indexer: Indexer
    worker: Worker
    sweep: Sweep


def wire(outside: Outside, settings: AgentSettings, worker_id: str) -> Core:
    """The managers over what is outside. Nothing is started."""
    live = LiveRuns()
    hub = Hub(outside.bus, worker_id, live)
    patience = Patience(settings.patience_s)
    writer = RunWriter(outside.log, hub, outside.codec)
    tool_runner = ToolRunner(
        writer, outside.tool_executor, MemoryToolRunner(outside.memory.agent_memory, patience), patience
    )
    choice = ModelChoice(outside.models)
    loop = RunLoop(
        writer,
        Answers(
            writer, ModelStep(outside.memory.compiler, Compactor(writer, outside.models), hub, live, patience), choice
        ),
        tool_runner,
        choice,
        AgentCache(outside.work),
        ToolCache(outside.tool_catalog),
        outside.identities,
        Rulings(outside.log),
        patience,
        settings.run_timeout_s,
        outside.revocations,
    )
    leases = LeaseKeeper(outside.log)
    indexer = Indexer(outside.index_log, outside.memory.index, outside.identities)
    worker = Worker(
        worker_id,
        outside.log,
        outside.bus,
        hub,
        live,
        loop,
        leases,
        indexer,
        HistoryCache(HISTORY_TOKENS),
        outside.codec,
        concurrency=settings.worker_concurrency,
        grace_s=settings.shutdown_grace_s,
    )
    conversations = DefaultConversations(outside.work)
    factory = AgentFactory(
        outside.work,
        outside.models,
        outside.tool_catalog,
        outside.memory.blocks,
        outside.identities,
        outside.specs,
    )
    return Core(
        hub=hub,
        runs=RunManager(
            worker_id, outside.log, outside.work, conversations, outside.bus, hub, live, outside.codec, outside.limits
        ),
        watching=WatchManager(outside.event_log, hub, outside.work),
        inputs=InputCheck(outside.work, outside.models),
        approvals=ApprovalManager(outside.approvals, outside.bus, hub, outside.codec),
        agents=AgentManager(outside.work, factory),
        factory=factory,
        exports=ExportManager(
            outside.work,
            factory,
            outside.tool_library,
            outside.memory.blocks,
            outside.specs,
            outside.codec,
        ),
        templates=TemplateManager(outside.work, outside.specs),
        conversations=ConversationManager(outside.work, outside.memory.blocks, outside.identities, outside.codec),
        leases=leases,
        indexer=indexer,
        worker=worker,
        sweep=Sweep(outside.log, outside.bus, worker),
    )


def services(
    core: Core, models: ModelCatalog, check: TokenCheck, revocations: Revocations, pages: PageTokens
) -> list[tuple[Callable[[Any, Any], None], Any, str]]:
    """The gRPC face of the managers, as an Assembly takes it."""
    agents = AgentServicer(core.agents, core.factory, core.exports, pages)
    conversations = ConversationServicer(core.conversations, pages)
    runs = RunServicer(core.runs, core.watching, core.inputs, core.approvals, check, revocations, pages)
    return [
        (add_AgentServiceServicer_to_server, agents, "hearth.agent.v1.AgentService"),
        (add_ConversationServiceServicer_to_server, conversations, "hearth.agent.v1.ConversationService"),
        (add_RunServiceServicer_to_server, runs, "hearth.agent.v1.RunService"),
        (
            add_TemplateServiceServicer_to_server,
            TemplateServicer(core.templates, pages),
            "hearth.agent.v1.TemplateService",
        ),
        (add_ModelServiceServicer_to_server, ModelServicer(models), "hearth.agent.v1.ModelService"),
        (add_UsageServiceServicer_to_server, UsageServicer(core.runs), "hearth.agent.internal.v1.UsageService"),
        # Designed, not built: the edge answers UNIMPLEMENTED for the methods of the generated bases.
        (add_WorkflowServiceServicer_to_server, _unbuilt(WorkflowServiceServicer), "hearth.agent.v1.WorkflowService"),
        (add_FileServiceServicer_to_server, _unbuilt(FileServiceServicer), "hearth.agent.v1.FileService"),
    ]


async def build(settings: AgentSettings) -> Assembly:
    """Everything that serves and works. Raises ValueError for settings that cannot be right."""
    user_channel = open_channel(settings.user_svc_address)
    trusted = trust(user_channel, settings)
    database = Database(
        settings.database_url.get_secret_value(),
        application_name="agent_svc",
        pool_size=settings.database_pool_size,
    )
    pool = LogPool(
        settings.database_url.get_secret_value(), application_name="agent_svc runs", size=settings.log_pool_size
    )
    worker_id = ids.new().hex
    connection = NatsConnection(settings.nats_url.get_secret_value(), f"agent_svc {worker_id}")
    bus = NatsBus(connection)
    memory_channel = open_channel(settings.memory_svc_address)
    tool_channel = open_channel(settings.tool_svc_address)
    execution_channel = open_channel(settings.tool_svc_address, retry=False)
    models = catalog_from_settings(ModelSettings.from_environment(os.environ))
    memory = MemoryClient(memory_channel)
    tools = ToolClient(tool_channel, execution_channel)
    outside = Outside(
        log=PostgresRunLog(pool),
        event_log=PostgresEventLog(pool),
        index_log=PostgresIndexLog(pool),
        approvals=PostgresApprovalLog(pool),
        work=PostgresUnitOfWork(database),
        bus=bus,
        codec=ProtobufEventCodec(),
        models=models,
        memory=Memory(memory, memory, memory, memory),
        tool_catalog=tools,
        tool_executor=tools,
        tool_library=ToolLibraryClient(tool_channel),
        identities=trusted.tokens,
        revocations=trusted.revocations,
        limits=trusted.limits,
    )
    purger = Purger(trusted.purges, database)
    core = wire(outside, settings, worker_id)
    pages = PageTokens(settings.derived_key("page-tokens"))
    # Last, so that nothing is open when something above cannot be right.
    await pool.open()
    await bus.open()
    return Assembly(
        servicers=services(core, models, trusted.verifier.verify, trusted.revocations, pages),
        verifier=trusted.verifier,
        audit=AuditTrail(database, AuditStream(connection, "agent_svc")),
        background=[
            trusted.revocations,
            trusted.limits,
            *(core.hub, core.leases, core.indexer, core.worker, core.sweep),
            purger,
        ],
        closers=[
            database.close,
            pool.close,
            bus.close,
            models.aclose,
            user_channel.close,
            memory_channel.close,
            tool_channel.close,
            execution_channel.close,
            core.hub.close,
        ],
        limits=trusted.limits,
    )


def _unbuilt(service: type[S]) -> S:
    """A service that the API has and this version does not, as its generated base."""
    return service()
