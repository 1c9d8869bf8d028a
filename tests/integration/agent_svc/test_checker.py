"""The history checker, shown to find what it is for: each planted bug is one that a careless change could bring.

The bugs are subclasses that take the place of a real class in the factory; the product knows nothing of them. The same turns
without a bug give no breach.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

import psycopg
import pytest

from agent_svc import factory
from agent_svc.domain.agent import Agent, AgentSettings
from agent_svc.domain.run import Run, RunState
from agent_svc.managers import model_step, watch_manager, watcher
from agent_svc.repositories.log_pool import LogPool
from agent_svc.repositories.run_log import PostgresRunLog
from agent_svc.servicers.frames import FrameWriter
from chassis import ids
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.conftest import MIGRATIONS
from tests.integration.agent_svc.nats_server import NatsServer
from tests.integration.agent_svc.outside import ToolsInProcess
from tests.integration.agent_svc.planted_bugs import (
    Agreeable,
    CountingBytes,
    Deaf,
    Flaky,
    Forgetful,
    Hasty,
    Miscounting,
    Polite,
    Repeating,
    Skipping,
    Stuttering,
    Unfenced,
    WithoutLedger,
)
from tests.integration.agent_svc.replica import Addresses, Replica, replica, until
from tests.integration.agent_svc.test_approvals import NO, resolve, waiting
from tests.integration.agent_svc.test_durability import lose_lease
from tests.reliability.checker import Accepted, History, Seen, check, read
from tests.support.databases import Databases, FreshDatabase

SMALL = AgentSettings(context_window_tokens=3_000, passive_recall=False)


@dataclass
class Book:
    """Turns of replicas over one database, written down for the checker."""

    database: FreshDatabase
    addresses: Addresses
    history: History = field(default_factory=History)
    tools: ToolsInProcess = field(default_factory=ToolsInProcess)

    async def start(self, on: Replica, agent: Agent, text: str) -> Run:
        """StartRun that is noted."""
        run = await on.start(agent, text)
        conversation_id = ids.encode("conv", run.conversation_id)
        self.history.accepted.append(Accepted(ids.encode("run", run.id), conversation_id, text))
        return run

    @asynccontextmanager
    async def watching(self, on: Replica, agent: Agent) -> AsyncGenerator[Seen]:
        """A client that follows the conversation, and at the end has seen all of it."""
        conversation_id = agent.default_conversation_id
        seen = self.history.follow(ids.encode("conv", conversation_id))
        task = asyncio.create_task(self._follow(on, conversation_id, seen))
        try:
            yield seen
            await until(lambda: self._through(seen))
        finally:
            task.cancel()
            seen.through_end = True

    async def _follow(self, on: Replica, conversation_id: UUID, seen: Seen) -> None:
        writer = FrameWriter(on.caller.organization_id, conversation_id)
        async with on.core.watching.conversation(on.caller.organization_id, conversation_id, 0) as following:
            async for batch in following.batches:
                seen.frames += [writer.write(frame) for frame in batch]

    def _through(self, seen: Seen) -> bool:
        (stored,) = read(self.database.superuser_url, [seen.conversation_id])
        return seen.seq >= stored.row["head_seq"] and all(run["state"] >= RunState.SUCCEEDED for run in stored.runs)

    def promises(self) -> set[str]:
        """The promises that the checker finds broken."""
        self.history.executed = list(self.tools.executed)
        conversations = {one.conversation_id for one in (*self.history.accepted, *self.history.seen)}
        return {breach.promise for breach in check(self.history, read(self.database.superuser_url, conversations))}


@pytest.fixture
def book(databases: Databases, nats: NatsServer, model: FakeModelServer) -> Book:
    database = databases.fresh(MIGRATIONS)
    return Book(database, Addresses(database.url, nats.url, model.url))


Log = Callable[[LogPool], PostgresRunLog]


def planted(log: Log) -> Callable[[factory.Outside, LogPool], factory.Outside]:
    return lambda outside, pool: replace(outside, log=log(pool))


async def turns(book: Book, here: Replica, count: int = 2) -> None:
    """A few turns of one conversation with a watcher."""
    agent = await here.agent()
    async with book.watching(here, agent):
        for number in range(count):
            await book.start(here, agent, f"message {number} is a little longer")


async def takeover(book: Book, model: FakeModelServer, first_log: Log, second_log: Log = PostgresRunLog) -> None:
    """A worker that waits for the model loses its lease without noticing; another does the work; then the first wakes up."""
    model.script("story", Step(text="the zombie's", gate="g", gate_after=0), Step(text="the end"))
    async with replica(book.addresses, plant=planted(first_log)) as first:
        agent = await first.agent()
        async with book.watching(first, agent):
            run = await book.start(first, agent, "a story")
            await model.until(lambda book: book.in_flight == 1)
            await first.core.leases.stop()
            await first.core.sweep.stop()
            await lose_lease(first, run)
            async with replica(book.addresses, plant=planted(second_log)) as second:
                second.caller = first.caller
                await second.finished(run)
                model.book.open_every_gate()
                await asyncio.sleep(0.5)


async def interrupted_tool(book: Book, model: FakeModelServer, second_log: Log) -> None:
    """A call that waits in a worker which loses its lease, and another worker that takes the run."""
    asked = asyncio.Event()

    async def pay(arguments: dict[str, object]) -> str:
        if not asked.is_set():
            asked.set()
            await asyncio.sleep(3600)
        return "paid"

    book.tools.add("pay", pay)
    model.script("pay", Step(tool_calls=[ScriptedCall("pay", {}, id="c1")]), Step(text="Done."))
    async with replica(book.addresses, tools=book.tools) as first:
        agent = await first.agent(tools=("pay",))
        async with book.watching(first, agent):
            run = await book.start(first, agent, "pay the bill")
            await asyncio.wait_for(asked.wait(), 20)
            await first.core.sweep.stop()
            await lose_lease(first, run)
            async with replica(book.addresses, tools=book.tools, plant=planted(second_log)) as second:
                second.caller = first.caller
                await second.finished(run)


async def refused_call(book: Book, model: FakeModelServer, log: Log) -> None:
    """A call that a person refuses."""

    async def refund(arguments: dict[str, object]) -> str:
        return "refunded"

    book.tools.add("refund", refund, asks=True)
    model.script("refund", Step(tool_calls=[ScriptedCall("refund", {}, id="c1")]), Step(text="As you like."))
    async with replica(book.addresses, tools=book.tools, plant=planted(log)) as here:
        agent = await here.agent(tools=("refund",))
        async with book.watching(here, agent):
            run = await book.start(here, agent, "refund it")
            asked = await waiting(here, run)
            await resolve(here, run, asked, NO)
            await here.finished(run)


async def test_without_a_bug_nothing_is_found(book: Book, model: FakeModelServer) -> None:
    async with replica(book.addresses) as here:
        await turns(book, here, 4)
    await takeover(book, model, PostgresRunLog)
    model.book.scripts.clear()
    await interrupted_tool(book, model, PostgresRunLog)
    model.book.scripts.clear()
    await refused_call(book, model, PostgresRunLog)
    assert len(book.history.accepted) == 7
    assert book.promises() == set()


async def test_a_worker_that_is_not_fenced(book: Book, model: FakeModelServer) -> None:
    await takeover(book, model, Unfenced)
    assert {"one writer", "runs"} <= book.promises()


async def test_events_that_are_published_before_they_are_committed(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "RunWriter", Hasty)
    async with replica(book.addresses, plant=planted(Flaky)) as here:
        await turns(book, here, 1)
    assert "stream" in book.promises()


async def test_an_event_that_a_watcher_does_not_get(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_manager, "Watcher", Deaf)
    async with replica(book.addresses) as here:
        await turns(book, here)
    assert book.promises() == {"stream"}


async def test_a_sequence_number_that_is_given_out_twice(book: Book) -> None:
    with psycopg.connect(book.database.owner_url) as connection:
        for table in ("events", "messages"):
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey".encode())
    async with replica(book.addresses, plant=planted(Miscounting)) as here:
        agent = await here.agent()
        run = await book.start(here, agent, "hello")
        await until(lambda: _ended(here, run))
        await book.start(here, agent, "hello again")
        await asyncio.sleep(1)
    assert "log" in book.promises()


async def _ended(here: Replica, run: Run) -> bool:
    return (await here.core.runs.get(here.caller, run.id)).state.ended


async def test_a_tool_that_is_silently_run_again(book: Book, model: FakeModelServer) -> None:
    await interrupted_tool(book, model, WithoutLedger)
    assert {"ledger", "executed"} <= book.promises()


async def test_a_refused_call_that_is_made_all_the_same(book: Book, model: FakeModelServer) -> None:
    await refused_call(book, model, Agreeable)
    assert book.promises() == {"approvals"}


async def test_a_message_that_is_accepted_and_lost(book: Book) -> None:
    async with replica(book.addresses, plant=planted(Forgetful)) as here:
        await book.start(here, await here.agent(), "hello")
    assert book.promises() == {"accepted"}


async def test_a_run_that_nobody_works_on(book: Book) -> None:
    async with replica(book.addresses, concurrency=0) as here:
        await book.start(here, await here.agent(), "hello")
    assert book.promises() == {"accepted", "rest"}


async def test_a_reply_that_is_written_twice(book: Book) -> None:
    async with replica(book.addresses, plant=planted(Stuttering)) as here:
        await turns(book, here)
    assert {"log", "runs"} <= book.promises()


async def test_pieces_that_do_not_join(book: Book, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_step, "PartialMessage", CountingBytes)
    monkeypatch.setattr(watcher.Seam, "join", lambda _, delta: delta)
    model.script("übel", Step(text="für jeden Käse fünf Nüsse", token_delay_ms=80))
    async with replica(book.addresses) as here:
        agent = await here.agent()
        async with book.watching(here, agent):
            await book.start(here, agent, "übel")
    assert book.promises() == {"deltas"}


async def test_a_cancel_that_does_not_cancel(book: Book, model: FakeModelServer) -> None:
    model.script("slow", Step(text="too late", gate="g", gate_after=0))
    async with replica(book.addresses, plant=planted(Polite)) as here:
        agent = await here.agent()
        async with book.watching(here, agent):
            run = await book.start(here, agent, "slow")
            await model.until(lambda book: book.in_flight == 1)
            await here.core.runs.cancel(here.caller, run.id)
            book.history.cancelled.append(ids.encode("run", run.id))
            model.book.open_every_gate()
    assert book.promises() == {"cancelled"}


async def long_talk(book: Book, here: Replica, agent: Agent, count: int) -> None:
    """Turns that outgrow a small window, one after the other."""
    for number in range(count):
        await here.finished(await book.start(here, agent, f"question {number}: " + "word " * 120))


async def test_summaries_break_no_promise(book: Book) -> None:
    async with replica(book.addresses) as here:
        agent = await here.agent(settings=SMALL)
        async with book.watching(here, agent) as seen:
            await long_talk(book, here, agent, 7)
    assert any(event.HasField("context_compacted") for event in seen.events)
    assert book.promises() == set()


async def test_a_conversation_that_is_compacted_twice(book: Book) -> None:
    async with replica(book.addresses, plant=planted(Repeating)) as here:
        await long_talk(book, here, await here.agent(settings=SMALL), 4)
    assert "compaction" in book.promises()


async def test_a_message_that_gets_lost_behind_a_summary(book: Book) -> None:
    async with replica(book.addresses) as first:
        agent = await first.agent(settings=SMALL)
        await long_talk(book, first, agent, 4)
    async with replica(book.addresses, plant=planted(Skipping)) as second:
        second.caller = first.caller
        await long_talk(book, second, agent, 1)
    assert book.promises() == {"compaction"}
