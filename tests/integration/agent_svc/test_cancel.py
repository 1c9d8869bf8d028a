"""CancelRun's bound: after its OK nothing of the run begins any more, and what it was waiting for is closed within a second."""

import asyncio
import json
import random
from uuid import UUID

import aiohttp

from agent_svc.domain.agent import AgentSettings
from agent_svc.domain.run import RunState
from chassis import ids
from tests.fakes.model_script import ScriptedCall, SeenRequest, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.outside import ToolsInProcess
from tests.integration.agent_svc.replica import Addresses, Replica, replica

RUNS = 40


class Bound:
    """Cancels one run at a random moment, and looks at what the outside sees of it then and later."""

    def __init__(self, model: FakeModelServer, tools: ToolsInProcess, mark: str) -> None:
        self._model = model
        self._tools = tools
        self._mark = mark
        self.began_before = 0

    async def check(self, here: Replica, run_id: UUID, after_s: float) -> None:
        await asyncio.sleep(after_s)
        cancelled = await here.core.runs.cancel(here.caller, run_id)
        assert cancelled.state is RunState.CANCELLED
        tools_before = self._tool_calls(run_id)
        await self._read_all_sent()
        self.began_before = tools_before + len(self._requests())
        await asyncio.sleep(1.0)
        assert self._open() == 0, "the model's stream is closed within a second"
        await asyncio.sleep(0.7)
        begun = self._tool_calls(run_id) + len(self._requests())
        assert begun == self.began_before, "nothing began after the OK"

    async def _read_all_sent(self) -> None:
        """Returns when the model server has read every request that was sent before this call.

        It runs in this event loop, so a request may lie in its socket, unread, when the OK comes. It takes connections in
        their order: one that is made now is answered after those that were there.
        """
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self._model.port}/control/state") as answer,
        ):
            assert answer.status == 200

    def _tool_calls(self, run_id: UUID) -> int:
        return sum(request.startswith(ids.encode("run", run_id)) for _, request in self._tools.executed)

    def _open(self) -> int:
        return sum(request.outcome == "open" for request in self._requests())

    def _requests(self) -> list[SeenRequest]:
        return [one for one in self._model.book.requests if self._mark in json.dumps(one.body)]


async def test_after_the_ok_nothing_begins(addresses: Addresses, model: FakeModelServer) -> None:
    """Runs that call the model and tools over and over, cancelled anywhere, through a replica that does not work on them."""
    chance = random.Random(7)
    tools = ToolsInProcess()

    async def work(arguments: dict[str, object]) -> str:
        await asyncio.sleep(0.05)
        return "done"

    tools.add("work", work)
    async with (
        replica(addresses, concurrency=0, tools=tools) as api,
        replica(addresses, concurrency=30, tools=tools) as one,
        replica(addresses, concurrency=30, tools=tools) as two,
    ):
        one.caller = two.caller = api.caller
        checks: list[asyncio.Task[None]] = []
        bounds: list[Bound] = []
        for number in range(RUNS):
            mark = f"mark{number:03}"
            step = Step(text="again and again", token_delay_ms=15, tool_calls=[ScriptedCall("work", {})])
            model.script(mark, step, repeat=True)
            agent = await api.agent(tools=("work",), settings=AgentSettings(max_steps=50))
            run = await api.start(agent, mark)
            bounds.append(Bound(model, tools, mark))
            where = chance.choice([api, one, two])
            checks.append(asyncio.create_task(bounds[-1].check(where, run.id, chance.uniform(0, 0.8))))
        await asyncio.gather(*checks)
    assert sum(bound.began_before for bound in bounds) > RUNS
