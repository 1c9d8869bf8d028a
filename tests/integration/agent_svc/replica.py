"""One agent_svc over a real PostgreSQL, a real NATS and a model server, with memory and tools in this process.

As a program it is a worker that can be killed: `python -m tests.integration.agent_svc.replica DATABASE_URL NATS_URL MODEL_URL
[SILENCE_S]`, with the seconds after which it gives up a silent model.
"""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import uvloop

from agent_svc.adapters.models import ModelSettings, catalog_from_settings
from agent_svc.adapters.models.transport import Limits as Waiting
from agent_svc.adapters.nats_bus import NatsBus
from agent_svc.domain.agent import Agent, AgentDraft, AgentSettings
from agent_svc.domain.event import EventType
from agent_svc.domain.frame import EventFrame, Frame
from agent_svc.domain.run import BusyPolicy, Run
from agent_svc.domain.tool_rules import ToolRule
from agent_svc.factory import Core, Memory, Outside, wire
from agent_svc.managers.run_manager import Target
from agent_svc.repositories.approval_log import PostgresApprovalLog
from agent_svc.repositories.event_log import PostgresEventLog, PostgresIndexLog
from agent_svc.repositories.log_pool import LogPool
from agent_svc.repositories.run_log import PostgresRunLog
from agent_svc.repositories.unit_of_work import PostgresUnitOfWork
from agent_svc.servicers.event_codec import ProtobufEventCodec
from agent_svc.settings import AgentSettings as ServiceSettings
from chassis import failpoints, ids
from chassis.database import Database
from chassis.identity import Identity, Role, use
from chassis.limits import Limits, NoLimits
from chassis.nats_connection import NatsConnection
from chassis.once import Once
from tests.integration.agent_svc.outside import IdentitiesInProcess, MemoryInProcess, ToolsInProcess


@dataclass(frozen=True)
class Addresses:
    """Where the real parts are."""

    database: str
    nats: str
    model: str


@dataclass
class Replica:
    """A running agent_svc without its gRPC face, and one organization's user who calls it."""

    core: Core
    outside: Outside
    memory: MemoryInProcess
    tools: ToolsInProcess
    worker_id: str
    pool: LogPool
    caller: Identity = field(
        default_factory=lambda: Identity(ids.new(), ids.encode("user", ids.new()), Role.MEMBER, "token")
    )

    async def agent(
        self,
        *,
        tools: tuple[str, ...] = (),
        settings: AgentSettings | None = None,
        tool_rules: tuple[ToolRule, ...] = (),
    ) -> Agent:
        """A new agent with a name of its own."""
        name = f"agent-{ids.new().hex}"
        draft = AgentDraft(name, tools=tools, settings=settings or AgentSettings(), tool_rules=tool_rules)
        with use(self.caller):
            return await self.core.factory.create(self.caller, draft, Once(None, lambda _: b""))

    async def start(self, agent: Agent, text: str, policy: BusyPolicy = BusyPolicy.QUEUE) -> Run:
        """StartRun in the agent's default conversation."""
        return await self.core.runs.start(self.caller, Target(agent_id=agent.id), text, policy, None, b"")

    async def send(self, agent: Agent, text: str, timeout_s: float = 30.0) -> list[Frame]:
        """SendMessage: all frames of a new run, followed from before it began."""
        frames: list[Frame] = []
        async with asyncio.timeout(timeout_s), self.core.watching.feed(agent.default_conversation_id) as feed:
            run = await self.start(agent, text)
            async for batch in self.core.watching.started(feed, run):
                frames += batch
        return frames

    async def follow(self, run: Run, after_seq: int = 0, timeout_s: float = 30.0) -> list[Frame]:
        """All frames of a run to its terminal event."""
        frames: list[Frame] = []
        async with asyncio.timeout(timeout_s):
            async with self.core.watching.run(run.organization_id, run.id, after_seq) as following:
                async for batch in following.batches:
                    frames += batch
        return frames

    async def finished(self, run: Run, timeout_s: float = 30.0) -> Run:
        """The run after it has ended."""
        await self.follow(run, timeout_s=timeout_s)
        return await self.core.runs.get(self.caller, run.id)

    async def log(self, conversation_id: UUID) -> list[EventFrame]:
        """The whole log of a conversation, from the table."""
        _, events = await self.outside.event_log.events(self.caller.organization_id, conversation_id, 0, 10_000)
        return events

    async def messages(self, conversation_id: UUID) -> list[tuple[str, str]]:
        """(role, text) of all messages, by seq."""
        found, _ = await self.core.conversations.messages(self.caller, conversation_id, None, 200, newest_first=False)
        return [(message.role.name.lower(), message.text) for message in found]


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 20.0) -> None:
    """Waits for a condition; raises TimeoutError."""
    for _ in range(int(timeout_s / 0.05)):
        met = condition()
        if met is True or (not isinstance(met, bool) and await met):
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


def seqs(frames: list[Frame] | list[EventFrame]) -> list[int]:
    """The seqs of the events among frames."""
    return [frame.seq for frame in frames if isinstance(frame, EventFrame)]


def types(frames: list[Frame] | list[EventFrame]) -> list[EventType]:
    """The types of the events among frames."""
    return [frame.type for frame in frames if isinstance(frame, EventFrame)]


@asynccontextmanager
async def replica(
    addresses: Addresses,
    *,
    concurrency: int = 8,
    memory: MemoryInProcess | None = None,
    tools: ToolsInProcess | None = None,
    patience_s: float = 2.0,
    grace_s: float = 0.3,
    limits: Limits | None = None,
    waiting: Waiting | None = None,
    plant: Callable[[Outside, LogPool], Outside] = lambda outside, _: outside,
) -> AsyncGenerator[Replica]:
    """Starts one, and stops it as SIGTERM would. `plant` may put something worse in the place of what is real."""
    settings = ServiceSettings.model_validate(
        {"worker_concurrency": concurrency, "patience_s": patience_s, "shutdown_grace_s": grace_s}
    )
    memory = memory or MemoryInProcess()
    tools = tools or ToolsInProcess()
    worker_id = ids.new().hex
    async with AsyncExitStack() as opened:
        database = Database(addresses.database, application_name="test", pool_size=4)
        opened.push_async_callback(database.close)
        pool = LogPool(addresses.database, application_name="test runs", size=6)
        await pool.open()
        opened.push_async_callback(pool.close)
        bus = NatsBus(NatsConnection(addresses.nats, f"test {worker_id}"))
        await bus.open()
        opened.push_async_callback(bus.close)
        sources = ModelSettings(
            openai_api_key="k",
            openai_base_url=addresses.model,
            anthropic_api_key="k",
            anthropic_base_url=addresses.model,
            limits=waiting or Waiting(),
        )
        models = catalog_from_settings(sources)
        opened.push_async_callback(models.aclose)
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
            tool_library=tools,
            identities=IdentitiesInProcess(),
            limits=limits or NoLimits(),
        )
        outside = plant(outside, pool)
        core = wire(outside, settings, worker_id)
        opened.push_async_callback(core.hub.close)
        for background in (core.hub, core.leases, core.indexer, core.worker, core.sweep):
            await background.start()
            opened.push_async_callback(background.stop)
        yield Replica(core, outside, memory, tools, worker_id, pool)


async def _main() -> None:
    failpoints.arm(os.environ.get("HEARTH_FAILPOINTS", ""))
    silence_s = float(sys.argv[4]) if len(sys.argv) > 4 else 60.0
    waiting = Waiting(first_byte_s=silence_s, idle_s=silence_s, backoff_s=min(0.5, silence_s / 10))
    async with replica(Addresses(*sys.argv[1:4]), waiting=waiting):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.sleep(3600)


if __name__ == "__main__":
    uvloop.run(_main())
