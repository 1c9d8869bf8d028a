"""CancelRun's bound: after its OK nothing of the run begins any more, and what it was waiting for is closed within a second."""

import asyncio
import json
import random
from uuid import UUID

import aiohttp
import pytest

from agent_svc.adapters.models.transport import Answer, Transport
from agent_svc.domain.agent import AgentSettings
from agent_svc.domain.run import RunState
from chassis import ids
from tests.fakes.model_script import ScriptedCall, SeenRequest, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.outside import ToolsInProcess
from tests.integration.agent_svc.replica import Addresses, Replica, replica

RUNS = 40


class Sent:
    """Bodies of the requests to model servers, noted as they are about to be sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._bodies: list[bytes] = []
        post = Transport.post

        async def noted(transport: Transport, path: str, body: bytes, model: str) -> Answer:
            self._bodies.append(body)
            return await post(transport, path, body, model)

        monkeypatch.setattr(Transport, "post", noted)

    def count(self, mark: str) -> int:
        return sum(mark.encode() in body for body in self._bodies)


class Bound:
    """Cancels one run at a random moment, and looks at what the outside sees of it then and later."""

    def __init__(self, model: FakeModelServer, tools: ToolsInProcess, sent: Sent, mark: str) -> None:
        self._model = model
        self._tools = tools
        self._sent = sent
        self._mark = mark
        self.began_before = 0

    async def check(self, here: Replica, run_id: UUID, after_s: float) -> None:
        await asyncio.sleep(after_s)
        cancelled = await here.core.runs.cancel(here.caller, run_id)
        assert cancelled.state is RunState.CANCELLED
        self.began_before = self._begun(run_id)
        await self._read_all_sent()
        arrived = len(self._requests())
        await asyncio.sleep(1.0)
        assert self._open() == 0, "the model's stream is closed within a second"
        await asyncio.sleep(0.7)
        assert self._begun(run_id) == self.began_before, "nothing began after the OK"
        assert len(self._requests()) == arrived, "nothing arrived that was not sent before the OK"

    async def _read_all_sent(self) -> None:
        """Returns when the model server has read every request that was sent before this call.

        It runs in this event loop, so a request may lie in its socket, unread, when the OK comes. It takes connections in
        their order: one that is made now is answered after those that were there.
        """
        state = f"http://127.0.0.1:{self._model.port}/control/state"
        async with aiohttp.ClientSession() as session, session.get(state) as answer:
            assert answer.status == 200

    def _begun(self, run_id: UUID) -> int:
        """Model calls and tool calls of the run so far, at the side that makes them."""
        calls = sum(request.startswith(ids.encode("run", run_id)) for _, request in self._tools.executed)
        return calls + self._sent.count(self._mark)

    def _open(self) -> int:
        return sum(request.outcome == "open" for request in self._requests())

    def _requests(self) -> list[SeenRequest]:
        return [one for one in self._model.book.requests if self._mark in json.dumps(one.body)]


async def test_after_the_ok_nothing_begins(
    addresses: Addresses, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that call the model and tools over and over, cancelled anywhere, through a replica that does not work on them."""
    chance = random.Random(7)
    tools = ToolsInProcess()
    sent = Sent(monkeypatch)

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
            bounds.append(Bound(model, tools, sent, mark))
            where = chance.choice([api, one, two])
            checks.append(asyncio.create_task(bounds[-1].check(where, run.id, chance.uniform(0, 0.8))))
        await asyncio.gather(*checks)
    assert sum(bound.began_before for bound in bounds) > RUNS
