"""Long conversations in a small window over a model server that fails every fifth time: every run ends, no prompt outgrows the
window, no message is lost, and the worker's memory stays where it was.

HEARTH_TEST_LONG_TURNS says how many turns: 60, unless it is set; 2000 is the long one.
"""

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from agent_svc.domain.agent import Agent, AgentSettings
from agent_svc.domain.run import RunState
from agent_svc.domain.tokens import estimate_tokens
from chassis import ids
from tests.fakes.model_script import Book, ScriptedCall, SeenRequest, Step, messages_of, text_of
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.conftest import MIGRATIONS
from tests.integration.agent_svc.nats_server import NatsServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica
from tests.integration.agent_svc.test_durability import worker_process
from tests.reliability.checker import Accepted, History, check, read
from tests.support.databases import Databases, databases

__all__ = ["databases"]

TURNS = int(os.environ.get("HEARTH_TEST_LONG_TURNS", "60"))
SEED = int(os.environ.get("HEARTH_TEST_SEED", "20260304"))
CONVERSATIONS = 3
WINDOW = 4_096
SILENCE_S = 0.4
# What the worker may grow by after a quarter of the turns; what the tests' own memory keeps of each turn is in it.
GROWTH_MB = 24


class Moody(Book):
    """Answers as it likes: text, a call of a memory tool, an error (10 %), garbage (5 %), or a silence (5 %)."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.recording = False
        self.largest = 0
        self.summaries = 0
        self._chance = chance
        self._count = 0

    def next_step(self, seen: SeenRequest) -> Step:
        self._count += 1
        self.largest = max(self.largest, _tokens(seen.body))
        last = text_of(messages_of(seen.body)[-1])
        asked = "Write the summary now." in last
        self.summaries += asked
        mood = self._chance.random()
        if mood < 0.10:
            return Step(status=self._chance.choice([429, 500, 503]), error="not today")
        if mood < 0.15:
            return Step(text="this becomes", garbage_after=1)
        if mood < 0.20:
            return Step(text="this becomes", stall_after=self._chance.choice([0, 1]))
        words = " ".join(
            self._chance.choices(["tea", "Rex", "blue", "Oslo", "seven"], k=self._chance.randrange(5, 120))
        )
        if asked or mood > 0.45 or "tools" not in seen.body:
            return Step(text=words)
        call = ScriptedCall("core_memory_append", {"label": "human", "text": words}, id=f"call_{self._count}")
        return Step(text="Noted.", tool_calls=[call])


def _tokens(body: dict[str, Any]) -> int:
    """What a request takes of the window, by the service's own estimate, the answer included."""
    messages = sum(
        estimate_tokens(text_of(message)) + sum(estimate_tokens(json.dumps(c["function"])) for c in _calls(message))
        for message in messages_of(body)
    )
    tools = sum(estimate_tokens(json.dumps(tool["function"])) for tool in body.get("tools") or ())
    return messages + tools + int(body.get("max_completion_tokens") or body.get("max_tokens") or 0)


def _calls(message: dict[str, Any]) -> list[dict[str, Any]]:
    return message.get("tool_calls") or []


def _resident_mb(pid: int) -> float:
    (line,) = [row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


async def _talk(here: Replica, agent: Agent, chance: random.Random, history: History, turns: int) -> None:
    for _ in range(turns):
        text = f"{ids.new().hex} " + "word " * chance.randrange(1, 160)
        run = await here.start(agent, text)
        conversation = ids.encode("conv", run.conversation_id)
        history.accepted.append(Accepted(ids.encode("run", run.id), conversation, text))
        ended = await here.finished(run, timeout_s=60)
        assert ended.state in (RunState.SUCCEEDED, RunState.FAILED)


@pytest.mark.timeout(60 + 2 * TURNS)
async def test_long_conversations_with_a_moody_model(databases: Databases, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    history = History()
    nats = NatsServer(tmp_path / "nats")
    await nats.start()
    database = databases.fresh(MIGRATIONS)
    try:
        async with FakeModelServer() as model:
            model.book = moody = Moody(chance)
            addresses = Addresses(database.url, nats.url, model.url)
            async with (
                replica(addresses, concurrency=0) as here,
                worker_process(addresses, str(SILENCE_S)) as worker,
            ):
                settings = AgentSettings(context_window_tokens=WINDOW, max_steps=8)
                agents = [await here.agent(settings=settings) for _ in range(CONVERSATIONS)]
                each = max(1, TURNS // CONVERSATIONS)

                async def everybody(turns: int) -> None:
                    await asyncio.gather(*(_talk(here, agent, chance, history, turns) for agent in agents))

                await everybody(each // 4)
                before = _resident_mb(worker.pid)
                await everybody(each - each // 4)
                grown = _resident_mb(worker.pid) - before
    finally:
        nats.kill()
    stored = read(database.superuser_url, {one.conversation_id for one in history.accepted})
    assert check(history, stored) == []
    states = [run["state"] for conversation in stored for run in conversation.runs]
    assert states.count(RunState.SUCCEEDED) > 0.7 * len(states)
    summaries = sum(one.kind == "context_compacted" for conversation in stored for one in conversation.events)
    assert summaries >= len(states) // 12
    assert moody.summaries >= summaries
    assert 0.5 * WINDOW < moody.largest <= WINDOW
    assert grown < GROWTH_MB
