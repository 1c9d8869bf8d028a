"""Reasoning over the real loop and database: streamed as its own kind, stored, and given back as its provider wants it."""

from __future__ import annotations

import pytest

from agent_svc.domain.agent import AgentSettings
from agent_svc.domain.frame import DeltaFrame
from agent_svc.domain.run import RunState
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.models.turns import agent_with
from tests.integration.agent_svc.outside import ToolsInProcess
from tests.integration.agent_svc.replica import Addresses, Replica, replica

THINKING = AgentSettings(reasoning_effort="low", passive_recall=False)


async def look(_: dict[str, object]) -> str:
    return "sky"


@pytest.mark.parametrize("name", ["openai/scripted", "anthropic/scripted"])
async def test_reasoning_is_streamed_apart_and_goes_back_with_the_results(
    here: Replica, model: FakeModelServer, name: str
) -> None:
    here.tools.add("look", look)
    first = Step(reasoning="Where is it?", text="I look.", tool_calls=[ScriptedCall("look")], token_delay_ms=2)
    model.script("hello", first, Step(reasoning="I see.", text="Blue."))
    agent = await agent_with(here, name, THINKING, ("look",))
    frames = await here.send(agent, "hello")
    deltas = [frame for frame in frames if isinstance(frame, DeltaFrame)]
    assert "".join(delta.text for delta in deltas if delta.reasoning) == "Where is it?I see."
    assert "".join(delta.text for delta in deltas if not delta.reasoning) == "I look.Blue."
    sent = model.book.requests[1].body["messages"]
    answer = next(message for message in sent if message["role"] == "assistant")
    if name.startswith("openai"):
        assert answer["reasoning_content"] == "Where is it?"
    else:
        assert answer["content"][0] == {"type": "thinking", "thinking": "Where is it?", "signature": "c2lnbmVk"}
        assert model.book.requests[1].body["thinking"]["type"] == "enabled"


async def test_what_was_signed_outlives_the_process(addresses: Addresses, model: FakeModelServer) -> None:
    tools = ToolsInProcess()
    tools.add("look", look)
    model.script("hello", Step(reasoning="Hm.", tool_calls=[ScriptedCall("look")]), Step(text="Blue."))
    async with replica(addresses, tools=tools) as one:
        agent = await agent_with(one, "anthropic/scripted", THINKING, ("look",))
        await one.finished(await one.start(agent, "hello"))
    async with replica(addresses, tools=tools) as other:
        other.caller = one.caller
        run = await other.finished(await other.start(agent, "and again, please"))
    assert run.state is RunState.SUCCEEDED
    blocks = [block for message in model.book.requests[-1].body["messages"] for block in message["content"]]
    signed = [block for block in blocks if block["type"] == "thinking"]
    assert signed == [{"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"}]
