"""What happens when a worker dies, hangs, is stopped, or loses NATS in the middle of a turn."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_svc.domain.agent import Agent
from agent_svc.domain.conversation import Message, MessageRole
from agent_svc.domain.event import EventType, MessageCompleted, RunStarted
from agent_svc.domain.log import Commit, Dispatch, Entry, Fenced, TurnAsk
from agent_svc.domain.run import Run, RunState, RunStopReason
from agent_svc.repositories.prepared import Prepared
from agent_svc.servicers.event_codec import ProtobufEventCodec
from chassis.errors import FailedPrecondition, NotFound
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.nats_server import NatsServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica, seqs, types, until

E = EventType
ROOT = Path(__file__).parents[3]


@asynccontextmanager
async def worker_process(addresses: Addresses, *arguments: str) -> AsyncGenerator[subprocess.Popen[bytes]]:
    """A replica in a process of its own, ready to work."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.integration.agent_svc.replica",
            addresses.database,
            addresses.nats,
            addresses.model,
            *arguments,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'services'}:{ROOT / 'protos/gen/python'}"},
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)
        assert line == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


async def whole(here: Replica, agent: Agent) -> list[int]:
    """Asserts that the log has no gap and no duplicate; returns its seqs."""
    found = seqs(await here.log(agent.default_conversation_id))
    assert found == list(range(1, len(found) + 1))
    return found


async def test_kill_9_in_the_middle_of_an_answer(addresses: Addresses, model: FakeModelServer) -> None:
    model.script("story", Step(text="once upon a time there was", gate="g", gate_after=3), Step(text="the end"))
    async with replica(addresses, concurrency=0) as watching:
        agent = await watching.agent()
        async with worker_process(addresses) as process:
            run = await watching.start(agent, "a story")
            following = asyncio.create_task(watching.follow(run))
            await model.until(lambda book: book.in_flight == 1, timeout_s=20)
            await asyncio.sleep(0.3)
            process.kill()
            process.wait()
            killed_at = asyncio.get_running_loop().time()
            async with replica(addresses):
                frames = await following
                assert asyncio.get_running_loop().time() - killed_at < 10
        assert types(frames) == [
            E.RUN_QUEUED,
            E.MESSAGE_COMPLETED,
            E.RUN_STARTED,
            E.RUN_STARTED,
            E.STEP_RESTARTED,
            E.MESSAGE_COMPLETED,
            E.RUN_SUCCEEDED,
        ]
        assert seqs(frames) == await whole(watching, agent)
        assert await watching.messages(agent.default_conversation_id) == [
            ("user", "a story"),
            ("assistant", "the end"),
        ]


async def test_kill_9_during_a_tool_call_reports_it_as_unknown(addresses: Addresses, model: FakeModelServer) -> None:
    """The call's ledger row is written by a worker that then dies: here, one that is fenced before it could write more."""
    asked = asyncio.Event()

    async def pay(arguments: dict[str, object]) -> str:
        asked.set()
        await asyncio.sleep(3600)
        return "paid"

    model.script("pay", Step(tool_calls=[ScriptedCall("pay", {}, id="c1")]), Step(text="I am not sure."))
    async with replica(addresses) as first:
        first.tools.add("pay", pay)
        agent = await first.agent(tools=("pay",))
        run = await first.start(agent, "pay the bill")
        await asyncio.wait_for(asked.wait(), 20)
        await lose_lease(first, run)
        async with replica(addresses, tools=first.tools) as second:
            second.caller = first.caller
            ended = await second.finished(run)
            assert ended.state is RunState.SUCCEEDED
            assert [name for name, _ in first.tools.executed] == ["pay"]
            messages = await second.messages(agent.default_conversation_id)
            assert "not known" in dict(messages)["tool"]
            await whole(second, agent)


async def test_an_interrupted_call_of_a_repeatable_tool_is_repeated(
    addresses: Addresses, model: FakeModelServer
) -> None:
    asked = asyncio.Event()

    async def look(arguments: dict[str, object]) -> str:
        if not asked.is_set():
            asked.set()
            await asyncio.sleep(3600)
        return "seen"

    model.script("look", Step(tool_calls=[ScriptedCall("look", {}, id="c1")]), Step(text="I saw it."))
    async with replica(addresses) as first:
        first.tools.add("look", look, idempotent=True)
        agent = await first.agent(tools=("look",))
        run = await first.start(agent, "look")
        await asyncio.wait_for(asked.wait(), 20)
        await lose_lease(first, run)
        assert (await first.finished(run)).state is RunState.SUCCEEDED
        requests = {request for _, request in first.tools.executed}
        assert len(first.tools.executed) == 2
        assert len(requests) == 1
        assert ("tool", "seen") in await first.messages(agent.default_conversation_id)


_EXPIRE = Prepared(
    "test_expire",
    "UPDATE conversations SET lease_expire_time = now() - interval '1 second', lease_epoch = lease_epoch + 1 "
    "WHERE id = %(conversation)s",
)
_MAKE_DUE = Prepared("test_make_due", "UPDATE dispatches SET due_time = now() WHERE conversation_id = %(conversation)s")
_DISPATCHES = Prepared("test_dispatches", "SELECT 1 FROM dispatches")


async def lose_lease(replica: Replica, run: Run) -> None:
    """As if the worker had been dead for six seconds: its lease has expired, and it does not know."""
    values = {"conversation": run.conversation_id}
    await replica.pool.tenant(run.organization_id, [_EXPIRE, _MAKE_DUE], values)


async def test_a_zombie_writes_nothing(addresses: Addresses) -> None:
    async with replica(addresses, concurrency=0) as api:
        agent = await api.agent()
        run = await api.start(agent, "hello")
        log, codec = api.outside.log, ProtobufEventCodec()
        dispatch = Dispatch(run.organization_id, run.conversation_id)

        def ask(worker: str) -> TurnAsk:
            now = datetime.now(UTC)
            return TurnAsk(worker, now, codec.encode(RunStarted(), now), 1000)

        zombie = await log.claim(dispatch, ask("zombie"))
        assert zombie is not None
        assert await log.claim(dispatch, ask("zombie")) is None, "a lease is held once, even by the same worker"
        assert await log.claim(dispatch, ask("other")) is None
        await lose_lease(api, run)
        successor = await log.claim(dispatch, ask("successor"))
        assert successor is not None
        assert successor.taken_over
        assert successor.lease.epoch > zombie.lease.epoch
        assert (successor.message_id, successor.attempt) == (zombie.message_id, 2)
        before = await api.log(run.conversation_id)
        now = datetime.now(UTC)
        message = Message(zombie.message_id, run.id, run.first_seq, MessageRole.ASSISTANT, "from the grave", now)
        entry = Entry(codec.encode(MessageCompleted(message), now), message)
        with pytest.raises(Fenced):
            await log.commit(Commit(zombie.lease, run.id, (entry,), now))
        with pytest.raises(Fenced):
            await log.next_turn(zombie.lease, ask("zombie"))
        assert await log.renew([zombie.lease]) == set()
        await log.release(zombie.lease)
        assert await api.log(run.conversation_id) == before
        assert await log.renew([successor.lease]) == {run.conversation_id}
        assert (await log.commit(Commit(successor.lease, run.id, (entry,), now))).head_seq == len(before) + 1


async def test_a_stopped_worker_hands_its_run_over(addresses: Addresses, model: FakeModelServer) -> None:
    model.script("story", Step(text="once upon a time", gate="g", gate_after=2), Step(text="the end"))
    async with replica(addresses, concurrency=0) as api:
        agent = await api.agent()
        async with replica(addresses):
            run = await api.start(agent, "a story")
            await model.until(lambda book: book.in_flight == 1)
        stopped_at = asyncio.get_running_loop().time()
        assert (await api.core.runs.get(api.caller, run.id)).state is RunState.RUNNING
        async with replica(addresses):
            assert (await api.finished(run)).state is RunState.SUCCEEDED
        assert asyncio.get_running_loop().time() - stopped_at < 5
        assert (await api.messages(agent.default_conversation_id))[-1] == ("assistant", "the end")
        await whole(api, agent)


async def test_a_turn_that_ends_within_the_grace_is_not_interrupted(
    addresses: Addresses, model: FakeModelServer
) -> None:
    model.script("soon", Step(text="in time", delay_ms=300))
    async with replica(addresses, concurrency=0) as api:
        agent = await api.agent()
        async with replica(addresses, grace_s=10):
            run = await api.start(agent, "soon")
            await model.until(lambda book: book.in_flight == 1)
        assert (await api.core.runs.get(api.caller, run.id)).state is RunState.SUCCEEDED
        assert len(model.book.requests) == 1


async def test_a_cancel_ends_the_run_and_closes_the_models_stream(addresses: Addresses, model: FakeModelServer) -> None:
    model.script("story", Step(text="once upon a time", gate="g", gate_after=2))
    async with replica(addresses, concurrency=0) as api, replica(addresses):
        agent = await api.agent()
        run = await api.start(agent, "a story")
        await model.until(lambda book: book.in_flight == 1)
        cancelled = await api.core.runs.cancel(api.caller, run.id)
        assert (cancelled.state, cancelled.stop_reason) == (RunState.CANCELLED, RunStopReason.CANCELLED)
        await model.until(lambda book: book.in_flight == 0, timeout_s=1.0)
        assert types(await api.follow(run))[-1] is E.RUN_CANCELLED
        assert (await api.core.runs.cancel(api.caller, run.id)).state is RunState.CANCELLED
        ended = await api.finished(await api.start(agent, "and now?"))
        assert ended.state is RunState.SUCCEEDED
        with pytest.raises(FailedPrecondition) as refused:
            await api.core.runs.cancel(api.caller, ended.id)
        assert refused.value.reason == "RUN_ENDED"
        await whole(api, agent)


async def test_a_cancel_during_a_tool_call(here: Replica, model: FakeModelServer) -> None:
    stopped = asyncio.Event()

    async def long(arguments: dict[str, object]) -> str:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()
        return ""

    here.tools.add("long", long)
    model.script("work", Step(tool_calls=[ScriptedCall("long", {})]), Step(text="never said"))
    agent = await here.agent(tools=("long",))
    run = await here.start(agent, "work")
    await until(lambda: bool(here.tools.executed))
    await here.core.runs.cancel(here.caller, run.id)
    await asyncio.wait_for(stopped.wait(), 1)
    model.book.scripts.clear()
    assert (await here.finished(await here.start(agent, "what happened?"))).state is RunState.SUCCEEDED
    sent = model.book.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "tool", "user"]
    assert len(model.book.requests) == 2


async def test_a_waiting_run_is_cancelled_without_ever_starting(here: Replica, model: FakeModelServer) -> None:
    model.script("slow", Step(text="done", gate="g", gate_after=0))
    agent = await here.agent()
    first = await here.start(agent, "slow")
    await model.until(lambda book: book.in_flight == 1)
    second = await here.start(agent, "second")
    third = await here.start(agent, "third")
    assert (await here.core.runs.cancel(here.caller, second.id)).state is RunState.CANCELLED
    model.book.open_every_gate()
    assert (await here.finished(first)).state is RunState.SUCCEEDED
    assert (await here.finished(third)).state is RunState.SUCCEEDED
    assert (await here.core.runs.get(here.caller, second.id)).start_time is None
    await whole(here, agent)


async def test_without_nats_runs_go_on_and_watchers_poll(
    addresses: Addresses, nats: NatsServer, model: FakeModelServer
) -> None:
    async with replica(addresses) as here:
        agent = await here.agent()
        await here.finished(await here.start(agent, "with"))
        nats.kill()
        await asyncio.sleep(0.3)
        run = await here.start(agent, "without")
        assert (await here.finished(run)).state is RunState.SUCCEEDED
        async with replica(addresses, concurrency=0) as other:
            other.caller = here.caller
            watched = await here.start(agent, "watched from elsewhere")
            assert types(await other.follow(watched))[-1] is E.RUN_SUCCEEDED
            await nats.start()
            await until(lambda: here.core.hub.connected and other.core.hub.connected)
            again = await other.start(agent, "with again")
            assert (await other.finished(again)).state is RunState.SUCCEEDED
        await whole(here, agent)


async def test_a_run_whose_dispatch_was_lost_is_found(addresses: Addresses, nats: NatsServer) -> None:
    async with replica(addresses, concurrency=0) as api:
        agent = await api.agent()
        run = await api.start(agent, "hello")
        nats.kill()
        await nats.start()
        started_at = asyncio.get_running_loop().time()
        async with replica(addresses):
            assert (await api.finished(run)).state is RunState.SUCCEEDED
        assert asyncio.get_running_loop().time() - started_at < 10


async def test_a_deleted_conversation_stops_its_run(here: Replica, model: FakeModelServer) -> None:
    model.script("slow", Step(text="never", gate="g", gate_after=0))
    agent = await here.agent()
    run = await here.start(agent, "slow")
    await model.until(lambda book: book.in_flight == 1)
    await here.core.agents.delete(here.caller, agent.id)
    await here.core.agents.delete(here.caller, agent.id)
    assert here.memory.forgotten == [agent.id, agent.id]
    with pytest.raises(NotFound):
        await here.core.runs.get(here.caller, run.id)
    await model.until(lambda book: book.in_flight == 0, timeout_s=6)
    with pytest.raises(NotFound):
        await here.start(agent, "anyone?")
    assert await here.pool.run([_DISPATCHES], {}) == [[]]


async def test_a_signal_ends_a_worker_process_and_its_run_goes_on(addresses: Addresses, model: FakeModelServer) -> None:
    """SIGSTOP past the lease, then SIGCONT: the successor has ended the run, the stopped one adds nothing."""
    model.script("story", Step(text="once upon a time", gate="g", gate_after=2), Step(text="the end"))
    async with replica(addresses, concurrency=0) as api:
        agent = await api.agent()
        async with worker_process(addresses) as process:
            run = await api.start(agent, "a story")
            await model.until(lambda book: book.in_flight == 1, timeout_s=20)
            process.send_signal(signal.SIGSTOP)
            async with replica(addresses):
                assert (await api.finished(run)).state is RunState.SUCCEEDED
                process.send_signal(signal.SIGCONT)
                model.book.open_every_gate()
                await asyncio.sleep(2)
        assert await api.messages(agent.default_conversation_id) == [("user", "a story"), ("assistant", "the end")]
        await whole(api, agent)
