"""How many runs an organization and its users may have at once: exact over replicas, given back whatever way a run ends."""

import asyncio
import uuid
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import pytest

from agent_svc.domain.agent import Agent
from agent_svc.domain.run import CONCURRENT_RUNS, USER_CONCURRENT_RUNS, BusyPolicy, Run
from agent_svc.managers.run_manager import Target
from chassis import ids
from chassis.errors import DomainError
from chassis.identity import Identity, Role, use
from chassis.once import RequestKey
from tests.fakes.model_script import Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica, until


@dataclass
class Fixed:
    """Limits as a test sets them."""

    values: dict[str, int] = field(default_factory=dict[str, int])

    def of(self, organization_id: UUID, name: str) -> int | None:
        return self.values.get(name)


async def _try(here: Replica, agent: Agent, caller: Identity | None = None) -> Run | DomainError:
    try:
        return await here.core.runs.start(
            caller or here.caller, Target(agent_id=agent.id), "x", BusyPolicy.QUEUE, None, b""
        )
    except DomainError as error:
        return error


async def _open(here: Replica) -> int:
    return await here.core.runs.open_total(here.caller)


async def _emptied(here: Replica) -> None:
    async def empty() -> bool:
        return await _open(here) == 0

    await until(empty)


async def test_starts_on_two_replicas_fill_the_limit_exactly(addresses: Addresses) -> None:
    limits = Fixed({CONCURRENT_RUNS: 7})
    async with (
        replica(addresses, concurrency=0, limits=limits) as first,
        replica(addresses, concurrency=0, limits=limits) as second,
    ):
        second.caller = first.caller
        agents = [await first.agent() for _ in range(10)]
        starts = [_try((first, second)[number % 2], agents[number % 10]) for number in range(50)]
        outcomes = await asyncio.gather(*starts)
        refusals = [outcome for outcome in outcomes if isinstance(outcome, DomainError)]
        assert len(refusals) == 43
        assert {(error.code, error.reason, error.retry_after_s) for error in refusals} == {
            ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", 1.0)
        }
        assert refusals[0].metadata == {"limit": CONCURRENT_RUNS, "value": "7", "used": "7"}
        assert await _open(first) == 7
        # Nothing is left behind by what was refused.
        with psycopg.connect(addresses.database) as connection:
            connection.execute(
                "SELECT set_config('hearth.organization_id', %s, false)", (str(first.caller.organization_id),)
            )
            found = connection.execute(
                "SELECT count(*), sum(open_runs) FROM conversations WHERE open_runs > 0"
            ).fetchone()
            assert found is not None
            assert found[1] == 7
            assert connection.execute("SELECT count(*) FROM messages").fetchone() == (7,)


async def test_ended_cancelled_and_deleted_runs_give_back(here: Replica, model: FakeModelServer) -> None:
    agent = await here.agent()
    model.script("quick", Step(text="done"))
    assert (await here.finished(await here.start(agent, "quick"))).state.ended
    await _emptied(here)

    model.script("slow", Step(stall_before_head=True))
    waiting = [await here.start(agent, "slow") for _ in range(3)]
    assert await _open(here) == 3
    for _ in range(2):
        await here.core.runs.cancel(here.caller, waiting[1].id)
    assert await _open(here) == 2
    await here.core.runs.cancel(here.caller, waiting[0].id)
    assert await _open(here) == 1
    with use(here.caller):
        await here.core.agents.delete(here.caller, agent.id)
    assert await _open(here) == 0


async def test_a_user_s_own_limit_leaves_room_for_others(addresses: Addresses) -> None:
    limits = Fixed({CONCURRENT_RUNS: 3, USER_CONCURRENT_RUNS: 2})
    async with replica(addresses, concurrency=0, limits=limits) as here:
        agent = await here.agent()
        colleague = Identity(here.caller.organization_id, ids.encode("user", ids.new()), Role.MEMBER, "token")
        service = Identity(here.caller.organization_id, "svc:x", Role.SERVICE, "token")
        assert isinstance(await _try(here, agent), Run)
        mine = await _try(here, agent)
        assert isinstance(mine, Run)
        refused = await _try(here, agent)
        assert isinstance(refused, DomainError)
        assert refused.metadata == {"limit": USER_CONCURRENT_RUNS, "value": "2", "used": "2"}
        assert isinstance(await _try(here, agent, colleague), Run)
        # The organization's own limit holds for all, services included.
        for caller in (colleague, service):
            refused = await _try(here, agent, caller)
            assert isinstance(refused, DomainError)
            assert refused.metadata == {"limit": CONCURRENT_RUNS, "value": "3", "used": "3"}
        await here.core.runs.cancel(here.caller, mine.id)
        assert isinstance(await _try(here, agent, service), Run)


async def test_a_repeated_request_is_answered_though_nothing_more_may_start(addresses: Addresses) -> None:
    limits = Fixed({CONCURRENT_RUNS: 1})
    async with replica(addresses, concurrency=0, limits=limits) as here:
        agent = await here.agent()
        key = RequestKey("agent.StartRun", uuid.uuid4(), b"")
        start = (here.caller, Target(agent_id=agent.id), "x", BusyPolicy.QUEUE, key, b"body")
        first = await here.core.runs.start(*start)
        assert isinstance(await _try(here, agent), DomainError)
        assert (await here.core.runs.start(*start)).id == first.id


@pytest.mark.parametrize("limit", [0, 1])
async def test_at_the_edge(addresses: Addresses, limit: int) -> None:
    async with replica(addresses, concurrency=0, limits=Fixed({CONCURRENT_RUNS: limit})) as here:
        agent = await here.agent()
        outcomes = [await _try(here, agent) for _ in range(limit + 1)]
        assert [isinstance(outcome, Run) for outcome in outcomes] == [True] * limit + [False]
        assert await _open(here) == limit


async def test_a_limit_lowered_below_what_runs_stops_nothing(addresses: Addresses, model: FakeModelServer) -> None:
    limits = Fixed({CONCURRENT_RUNS: 5})
    async with replica(addresses, limits=limits) as here:
        agents = [await here.agent() for _ in range(4)]
        runs = [await here.start(agent, "hello") for agent in agents]
        limits.values[CONCURRENT_RUNS] = 1
        for run in runs:
            assert (await here.finished(run)).state.ended
        await _emptied(here)
        assert isinstance(await _try(here, agents[0]), Run)
