"""An agent with fallback models over the real loop: who answers when the first one cannot, and what watchers see of it."""

from __future__ import annotations

import time

import pytest

from agent_svc.domain.agent import AgentSettings
from agent_svc.domain.run import RunState
from chassis.errors import InvalidArgument
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.models.turns import agent_with, last_attempt, restarts
from tests.integration.agent_svc.replica import Replica

TWO = AgentSettings(fallback_models=("openai/second",), passive_recall=False)


def asked(model: FakeModelServer) -> list[str]:
    return [seen.body["model"] for seen in model.book.requests]


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        (Step(status=503, headers={"Retry-After": "0"}), 3),
        (Step(status=429, headers={"Retry-After": "3600"}), 1),
        (Step(status=402, error="Insufficient credits"), 1),
        (Step(status=401, error="Incorrect API key provided"), 1),
        (Step(status=404, error="The model `first` does not exist"), 1),
    ],
    ids=["down", "rate limit", "quota", "key", "unknown"],
)
async def test_the_next_model_answers_when_the_first_cannot(
    here: Replica, model: FakeModelServer, fault: Step, tries: int
) -> None:
    model.script("hello", fault, repeat=True, model="first")
    agent = await agent_with(here, "openai/first", TWO)
    frames = await here.send(agent, "hello")
    assert asked(model) == ["first"] * tries + ["second"]
    assert not restarts(frames)
    role, text = (await here.messages(agent.default_conversation_id))[-1]
    assert (role, text.endswith("hello")) == ("assistant", True)
    run = (await here.core.runs.page(here.caller, agent.id, None, [], None, 1))[0][0]
    (context,) = await here.core.runs.contexts(here.caller, run.id)
    assert context.step.model == "openai/second"


@pytest.mark.parametrize("error", ["messages: bad role", "maximum context length is 10", "rejected by content_policy"])
async def test_what_another_model_would_refuse_too_is_not_asked_of_it(
    here: Replica, model: FakeModelServer, error: str
) -> None:
    model.script("hello", Step(status=400, error=error), repeat=True, model="first")
    run = await here.finished(await here.start(await agent_with(here, "openai/first", TWO), "hello"))
    assert run.state is RunState.FAILED
    assert set(asked(model)) == {"first"}


async def test_a_stream_that_keeps_breaking_off_is_begun_again_and_then_elsewhere(
    here: Replica, model: FakeModelServer
) -> None:
    cut = Step(text="half of an answer", cut_after=2, token_delay_ms=5)
    model.script("hello", cut, repeat=True, model="first")
    frames = await here.send(await agent_with(here, "openai/first", TWO), "hello")
    assert asked(model) == ["first"] * 3 + ["second"]
    assert [restart.attempt for restart in restarts(frames)] == [2, 3, 4]
    assert all("broke off" in restart.cause for restart in restarts(frames))
    attempt, text = last_attempt(frames)
    assert (attempt, text.endswith("hello")) == (4, True)


async def test_the_rest_of_the_run_stays_with_the_model_that_answered(here: Replica, model: FakeModelServer) -> None:
    async def look(_: dict[str, object]) -> str:
        return "sky"

    here.tools.add("look", look)
    model.script("hello", Step(status=402), repeat=True, model="first")
    model.script("hello", Step(tool_calls=[ScriptedCall("look")]), Step(text="Blue."), model="second")
    run = await here.finished(await here.start(await agent_with(here, "openai/first", TWO, ("look",)), "hello"))
    assert run.state is RunState.SUCCEEDED
    assert asked(model) == ["first", "second", "second"]


async def test_the_next_run_does_not_try_the_broken_one_first(here: Replica, model: FakeModelServer) -> None:
    model.script("hello", Step(status=503, headers={"Retry-After": "0"}), repeat=True, model="first")
    agent = await agent_with(here, "openai/first", TWO)
    await here.finished(await here.start(agent, "hello"))
    begun, before = time.monotonic(), len(asked(model))
    await here.finished(await here.start(agent, "hello again"))
    assert asked(model)[before:] == ["second"]
    assert time.monotonic() - begun < 5


async def test_a_model_without_its_key_is_passed_over(here: Replica, model: FakeModelServer) -> None:
    settings = AgentSettings(fallback_models=("bedrock/claude", "openai/second"))
    agent = await agent_with(here, "google/gemini-2.5-flash", settings)
    assert (await here.finished(await here.start(agent, "hello"))).state is RunState.SUCCEEDED
    assert asked(model) == ["second"]


async def test_when_nobody_answers_the_last_ones_reason_is_told(here: Replica, model: FakeModelServer) -> None:
    model.script("hello", Step(status=402, error="no credits"), repeat=True, model="first")
    model.script("hello", Step(status=401, error="bad key"), repeat=True, model="second")
    run = await here.finished(await here.start(await agent_with(here, "openai/first", TWO), "hello"))
    assert run.error is not None
    assert (run.error.reason, "API key" in run.error.message) == ("MODEL_KEY_REFUSED", True)


async def test_a_fallback_that_no_provider_has_is_refused_at_once(here: Replica) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await agent_with(here, "openai/first", AgentSettings(fallback_models=("nobody/knows",)))
    assert caught.value.reason == "MODEL_UNKNOWN"
