"""Messages to a conversation that is busy: they wait in order, are refused, or interrupt; and there is an end to waiting."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from agent_svc.domain.event import EventType
from agent_svc.domain.frame import EventFrame, Frame
from agent_svc.domain.log import Lease, Turn, TurnAsk
from agent_svc.domain.run import BusyPolicy, Run, RunState
from agent_svc.managers import run_manager
from agent_svc.managers.run_manager import Target
from chassis import ids
from chassis.errors import FailedPrecondition, ResourceExhausted
from chassis.once import RequestKey
from tests.fakes.model_script import Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.replica import Replica, until


async def test_busy_policies(here: Replica, model: FakeModelServer) -> None:
    model.script("slow", Step(text="never", gate="g", gate_after=0))
    agent = await here.agent()
    slow = await here.start(agent, "slow")
    await model.until(lambda book: book.in_flight == 1)
    with pytest.raises(FailedPrecondition) as refused:
        await here.start(agent, "me too", BusyPolicy.REFUSE)
    assert refused.value.reason == "CONVERSATION_BUSY"
    interrupting = await here.start(agent, "now", BusyPolicy.INTERRUPT)
    assert (await here.core.runs.get(here.caller, slow.id)).state is RunState.CANCELLED
    assert (await here.finished(interrupting)).state is RunState.SUCCEEDED


async def test_an_interruption_ends_all_that_waits_and_is_one_when_it_is_repeated(
    here: Replica, model: FakeModelServer
) -> None:
    model.script("slow", Step(text="at last", gate="g", gate_after=0))
    agent = await here.agent()
    older = [await here.start(agent, text) for text in ("slow", "second", "third")]
    await model.until(lambda book: book.in_flight == 1)
    model.script("now", Step(text="yes", gate="h", gate_after=0))
    key = RequestKey("StartRun", ids.new(), b"hash")

    async def interrupt() -> Run:
        return await here.core.runs.start(
            here.caller, Target(agent_id=agent.id), "now", BusyPolicy.INTERRUPT, key, b"hash"
        )

    run = await interrupt()
    await model.until(lambda book: len(book.requests) == 2)
    # The answer got lost, the client asks again: that does not interrupt what it started itself.
    assert (await interrupt()).id == run.id
    model.book.open_every_gate()
    assert (await here.finished(run)).state is RunState.SUCCEEDED
    for one in older:
        assert (await here.core.runs.get(here.caller, one.id)).state is RunState.CANCELLED
    assert len(model.book.requests) == 2, "what waited behind the interrupted run never called the model"


async def test_a_conversation_that_is_full_refuses_and_says_when_to_come_back(
    here: Replica, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run_manager._MAX_OPEN, BusyPolicy.QUEUE, 3)
    model.script("slow", Step(text="at last", gate="g", gate_after=0))
    agent = await here.agent()
    runs = [await here.start(agent, text) for text in ("slow", "second", "third")]
    with pytest.raises(ResourceExhausted) as refused:
        await here.start(agent, "fourth")
    assert refused.value.reason == "RATE_LIMITED"
    assert refused.value.retry_after_s
    await model.until(lambda book: book.in_flight == 1)
    model.book.open_every_gate()
    for run in runs:
        assert (await here.finished(run)).state is RunState.SUCCEEDED
    assert (await here.finished(await here.start(agent, "fourth"))).state is RunState.SUCCEEDED


async def test_whoever_comes_after_the_queue_was_cancelled_does_not_wait_for_the_lease(
    here: Replica, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is cancelled between the end of the one before it and its turn leaves a lease that nobody needs."""
    model.script("slow", Step(text="done", gate="g", gate_after=0))
    agent = await here.agent()
    first = await here.start(agent, "slow")
    await model.until(lambda book: book.in_flight == 1)
    waiting = await here.start(agent, "waiting")
    next_turn = here.outside.log.next_turn

    async def late(lease: Lease, ask: TurnAsk) -> Turn | None:
        await here.core.runs.cancel(here.caller, waiting.id)
        return await next_turn(lease, ask)

    monkeypatch.setattr(here.outside.log, "next_turn", late)
    model.book.open_every_gate()
    await here.finished(first)
    await until(lambda: _cancelled(here, waiting))
    await asyncio.sleep(0.2)
    began = asyncio.get_running_loop().time()
    assert (await here.finished(await here.start(agent, "and now?"))).state is RunState.SUCCEEDED
    assert asyncio.get_running_loop().time() - began < 2.5


async def _cancelled(here: Replica, run: Run) -> bool:
    return (await here.core.runs.get(here.caller, run.id)).state is RunState.CANCELLED


async def test_a_message_that_comes_while_the_run_before_it_says_goodbye_is_not_forgotten(
    here: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run has ended in the log, so nothing waits; its worker is still telling, so the dispatch finds it busy."""
    publish = here.core.hub.publish
    said = asyncio.Event()

    async def slow(conversation_id: UUID, frames: Sequence[Frame]) -> None:
        await publish(conversation_id, frames)
        if any(isinstance(frame, EventFrame) and frame.type is EventType.RUN_SUCCEEDED for frame in frames):
            said.set()
            await asyncio.sleep(0.5)

    monkeypatch.setattr(here.core.hub, "publish", slow)
    agent = await here.agent()
    await here.start(agent, "first")
    await said.wait()
    began = asyncio.get_running_loop().time()
    assert (await here.finished(await here.start(agent, "second"))).state is RunState.SUCCEEDED
    assert asyncio.get_running_loop().time() - began < 2.5
