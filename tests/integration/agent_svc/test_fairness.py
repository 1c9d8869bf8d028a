"""An organization that floods a small worker does not starve another: what the other waits hardly moves."""

import contextlib
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from agent_svc.domain.agent import Agent
from agent_svc.domain.event import EventType
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.run import RunState
from chassis import ids
from chassis.errors import FailedPrecondition
from chassis.identity import Identity, Role
from tests.fakes.model_script import Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica

SLOTS = 8
FLOOD = 80
# A turn of the quiet one takes half a second, one of the flood a whole one, in which the worker has little to do.
SHORT, LONG = "short please", "long please"
DELAY_MS = 50
ASKED = 20
FLOODER = Identity(ids.new(), ids.encode("user", ids.new()), Role.MEMBER, "token")


@asynccontextmanager
async def flooder(here: Replica) -> AsyncGenerator[None]:
    """As the organization that floods."""
    mine, here.caller = here.caller, FLOODER
    try:
        yield
    finally:
        here.caller = mine


def script(model: FakeModelServer) -> None:
    """What the model says to both."""
    model.script(SHORT, Step(text=" ".join(["word"] * 10), token_delay_ms=DELAY_MS), repeat=True)
    model.script(LONG, Step(text=" ".join(["word"] * 20), token_delay_ms=DELAY_MS), repeat=True)


async def turns(here: Replica, agents: list[Agent]) -> list[float]:
    """Turns of the quiet organization, one after the other: their seconds, sorted."""
    took: list[float] = []
    for number in range(ASKED):
        sent = time.perf_counter()
        frames = await here.send(agents[number % len(agents)], SHORT)
        took.append(time.perf_counter() - sent)
        assert isinstance(frames[-1], EventFrame)
        assert frames[-1].type is EventType.RUN_SUCCEEDED
    return sorted(took)


@pytest.mark.timeout(180)
async def test_a_flood_does_not_move_the_waits_of_others(addresses: Addresses, model: FakeModelServer) -> None:
    script(model)
    async with replica(addresses, concurrency=SLOTS) as here:
        agents = [await here.agent() for _ in range(4)]
        async with flooder(here):
            flooding = [await here.agent() for _ in range(FLOOD)]
        # Another program on this machine may spoil a round; a starving organization would show in each.
        slower = [await _round(here, agents, flooding)]
        while slower[-1] >= 0.1 and len(slower) < 3:
            slower.append(await _round(here, agents, flooding))
    assert min(slower) < 0.1, slower


async def _round(here: Replica, agents: list[Agent], flooding: list[Agent]) -> float:
    """By how much the flood moves the p99 of the other."""
    quiet = await turns(here, agents)
    async with flooder(here):
        runs = [await here.start(agent, LONG) for agent in flooding]
    flooded = await turns(here, agents)
    async with flooder(here):
        states = [(await here.core.runs.get(here.caller, run.id)).state for run in runs]
        ended = sum(state.ended for state in states)
        assert 10 < ended < FLOOD, "the flood is worked on meanwhile, and is not over yet"
        for run in runs:
            with contextlib.suppress(FailedPrecondition):
                await here.core.runs.cancel(here.caller, run.id)
    slower = p99(flooded) / p99(quiet) - 1
    print(
        f"p50 {statistics.median(quiet):.3f} s → {statistics.median(flooded):.3f} s, p99 {p99(quiet):.3f} s → "
        f"{p99(flooded):.3f} s ({slower:+.1%}), {ended} of {FLOOD} of the flood ended"
    )
    return slower


async def test_a_long_queue_in_one_conversation_gives_its_slot_back(
    addresses: Addresses, model: FakeModelServer
) -> None:
    script(model)
    async with replica(addresses, concurrency=1) as here:
        agent = await here.agent()
        async with flooder(here):
            flooding = await here.agent()
            queued = [await here.start(flooding, LONG) for _ in range(6)]
        await model.until(lambda book: book.in_flight == 1)
        await here.send(agent, SHORT)
        async with flooder(here):
            states = [(await here.core.runs.get(here.caller, run.id)).state for run in queued]
            assert sum(state.ended for state in states) <= 2, "it waited for one run, not for six"
            for run in queued:
                assert (await here.finished(run)).state is RunState.SUCCEEDED


def p99(took: list[float]) -> float:
    return took[int(len(took) * 0.99)]
