"""Answers held to a JSON Schema over the real loop: asked for, checked, sent back once, and failed clearly."""

from __future__ import annotations

import json

from agent_svc.domain.agent import AgentSettings
from agent_svc.domain.run import RunState
from agent_svc.domain.run_input import RunExtras
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.models.turns import agent_with, restarts, start
from tests.integration.agent_svc.replica import Replica

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
HELD = RunExtras(output_schema=json.dumps(SCHEMA))
PLAIN = AgentSettings(passive_recall=False, reasoning_effort="low")


async def test_an_answer_that_matches_is_kept(here: Replica, model: FakeModelServer) -> None:
    model.script("count", Step(text='{"n": 3}'))
    agent = await agent_with(here, "openai/m", PLAIN)
    run = await here.finished(await start(here, agent, "count", HELD))
    assert run.state is RunState.SUCCEEDED
    body = model.book.requests[0].body
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["reasoning_effort"] == "low"
    await here.finished(await here.start(agent, "just talk"))
    assert "response_format" not in model.book.requests[-1].body


async def test_tools_are_called_before_the_answer_is_checked(here: Replica, model: FakeModelServer) -> None:
    async def look(_: dict[str, object]) -> str:
        return "3"

    here.tools.add("look", look)
    model.script("count", Step(text="I look.", tool_calls=[ScriptedCall("look")]), Step(text='{"n": 3}'))
    agent = await agent_with(here, "openai/m", PLAIN, ("look",))
    frames = await here.follow(await start(here, agent, "count", HELD))
    assert not restarts(frames)
    assert len(model.book.requests) == 2


async def test_an_answer_that_does_not_match_is_sent_back_once(here: Replica, model: FakeModelServer) -> None:
    bad = Step(text='{"n": "three"}', usage={"prompt_tokens": 100, "completion_tokens": 10})
    good = Step(text='{"n": 3}', usage={"prompt_tokens": 120, "completion_tokens": 9})
    model.script("count", bad, good)
    agent = await agent_with(here, "openai/m", PLAIN)
    run = await start(here, agent, "count", HELD)
    (restart,) = restarts(await here.follow(run))
    assert restart.attempt == 2
    assert "'three' is not of type 'integer'" in restart.cause
    sent = model.book.requests[1].body["messages"]
    assert sent[-2] == {"role": "assistant", "content": '{"n": "three"}'}
    assert "does not match the JSON Schema" in sent[-1]["content"]
    assert [text for _, text in await here.messages(agent.default_conversation_id)] == ["count", '{"n": 3}']
    ended = await here.core.runs.get(here.caller, run.id)
    assert (ended.usage.input_tokens, ended.usage.output_tokens, ended.steps) == (220, 19, 1)


async def test_after_the_second_bad_answer_the_run_fails_and_the_conversation_works(
    here: Replica, model: FakeModelServer
) -> None:
    model.script("count", Step(text="three"), Step(text="well, three"))
    agent = await agent_with(here, "openai/m", PLAIN)
    run = await here.finished(await start(here, agent, "count", HELD))
    assert run.state is RunState.FAILED
    assert run.error is not None
    assert run.error.reason == "ANSWER_DOES_NOT_MATCH"
    assert "not one JSON value" in run.error.message
    assert len(model.book.requests) == 2
    assert (await here.messages(agent.default_conversation_id))[-1] == ("assistant", "well, three")
    assert (await here.finished(await here.start(agent, "hello"))).state is RunState.SUCCEEDED
