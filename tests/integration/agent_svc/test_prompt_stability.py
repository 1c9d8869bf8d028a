"""What providers can cache: consecutive requests begin with the same bytes until memory is edited or the conversation compacted.

Measured where it counts, in the requests that the model server saw.
"""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest

from agent_svc.domain.agent import AgentSettings
from agent_svc.domain.run import RunState
from agent_svc.managers import progress
from tests.fakes.model_script import ScriptedCall, SeenRequest, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.replica import Replica


def sent(seen: SeenRequest) -> list[str]:
    """What a model reads of a request, in its order: tools, then message by message, as bytes on the wire."""
    body: dict[str, Any] = seen.body
    return [json.dumps(body.get("tools")), *(json.dumps(message) for message in body["messages"])]


def common(one: SeenRequest, other: SeenRequest) -> str:
    """The bytes with which both begin."""
    pairs = zip("\n".join(sent(one)), "\n".join(sent(other)), strict=False)
    return "".join(left for left, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each look at the clock is an hour after the one before."""

    class Clock(datetime):
        looks = 0

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            cls.looks += 1
            later = datetime(2026, 3, 4, tzinfo=UTC) + timedelta(hours=cls.looks)
            return cls.fromtimestamp(later.timestamp(), tz)

    monkeypatch.setattr(progress, "datetime", Clock)
    yield
    assert Clock.looks


@pytest.mark.usefixtures("hours")
async def test_consecutive_requests_begin_alike(here: Replica, model: FakeModelServer) -> None:
    async def look(arguments: dict[str, object]) -> str:
        return f"saw {arguments['word']}"

    here.tools.add("look", look)
    here.memory.core = "<memory_blocks>Ada likes tea.</memory_blocks>"
    for number in range(3):
        calls = [ScriptedCall("look", {"word": f"w{number}"}, id=f"c{number}")]
        model.script(f"question {number}", Step(tool_calls=calls), Step(text=f"answer {number}"))
    agent = await here.agent(tools=("look",))
    for number in range(3):
        here.memory.recalled = f"- memory {number}"
        run = await here.finished(await here.start(agent, f"question {number}"))
        assert run.state is RunState.SUCCEEDED
    requests = model.book.requests
    assert len(requests) == 6
    for number in range(3):
        first, second = requests[2 * number : 2 * number + 2]
        # Within a run the next request is the one before it, and more.
        assert sent(second)[: len(sent(first))] == sent(first)
        assert f"memory {number}" in sent(first)[-1]
    for number in range(2):
        last, following = requests[2 * number + 1], requests[2 * number + 2]
        # From run to run all is the same up to the older one's question, which has lost its notes.
        before = next(index for index, text in enumerate(sent(last)) if f"question {number}" in text)
        assert before >= 2 + 4 * number
        assert sent(following)[:before] == sent(last)[:before]
        assert len(common(last, following)) >= len("\n".join(sent(last)[:before]))
        assert "Time:" in sent(last)[before]
        assert "Time:" not in sent(following)[before]
        assert sent(following)[before + 1 : before + 3] == sent(last)[before + 1 : before + 3]
    here.memory.core = "<memory_blocks>Ada likes coffee.</memory_blocks>"
    await here.finished(await here.start(agent, "and now?"))
    edited = common(requests[4], model.book.requests[-1])
    assert edited.endswith("Ada likes ")


async def test_a_compaction_changes_what_comes_after_the_system_text_once(
    here: Replica, model: FakeModelServer
) -> None:
    model.script("Write the summary now.", Step(text="Questions were asked."), repeat=True)
    agent = await here.agent(settings=AgentSettings(context_window_tokens=3_000, passive_recall=False))
    for number in range(7):
        await here.finished(await here.start(agent, f"question {number}: " + "word " * 100))
    turns = [seen for seen in model.book.requests if "tools" in seen.body]
    assert len(turns) == 7
    assert {tuple(sent(seen)[:2]) for seen in turns} == {tuple(sent(turns[0])[:2])}
    broken = [
        number
        for number, (one, other) in enumerate(itertools.pairwise(turns))
        if sent(one)[:-1] != sent(other)[: len(sent(one)) - 1]
    ]
    assert len(broken) == len(model.book.requests) - len(turns)
    assert 0 < len(broken) < 4
