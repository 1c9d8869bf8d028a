"""Long conversations: older messages become a summary, once, whoever dies; nothing is lost, and the next turns begin there."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent_svc.domain.agent import Agent, AgentSettings, CompactionSettings
from agent_svc.domain.changes import AgentChange
from agent_svc.domain.conversation import Message, MessageRole
from agent_svc.domain.event import EventType
from agent_svc.domain.log import Lease
from agent_svc.domain.run import Run, RunState
from chassis import failpoints, ids
from hearth.agent.v1 import event_pb2
from tests.fakes.model_script import ScriptedCall, SeenRequest, Step, text_of
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica, types
from tests.integration.agent_svc.test_durability import lose_lease, worker_process

E = EventType
SMALL = AgentSettings(context_window_tokens=3_000, passive_recall=False)
ASKED = "Write the summary now."
LONG = "word " * 120


async def messages(here: Replica, agent: Agent) -> Sequence[Message]:
    found, _ = await here.core.conversations.messages(
        here.caller, agent.default_conversation_id, None, 200, newest_first=False
    )
    return found


async def compacted(here: Replica, agent: Agent) -> list[event_pb2.ContextCompacted]:
    log = await here.log(agent.default_conversation_id)
    return [
        event_pb2.RunEvent.FromString(frame.body).context_compacted
        for frame in log
        if frame.type is EventType.CONTEXT_COMPACTED
    ]


def summaries(model: FakeModelServer) -> list[SeenRequest]:
    """The requests for a summary."""
    return [seen for seen in model.book.requests if ASKED in text_of(seen.body["messages"][-1])]


def told(seen: SeenRequest) -> list[tuple[str, str]]:
    return [(message["role"], text_of(message)) for message in seen.body["messages"]]


async def talk(here: Replica, agent: Agent, count: int, *, start: int = 0) -> list[Run]:
    """Turns one after the other, each with an answer as long as its question."""
    ended = [
        await here.finished(await here.start(agent, f"question {number}: {LONG}"))
        for number in range(start, start + count)
    ]
    assert {run.state for run in ended} == {RunState.SUCCEEDED}
    return ended


async def shrink(here: Replica, agent: Agent) -> None:
    """From now on the agent's window is small."""
    await here.core.agents.update(here.caller, agent.id, AgentChange(settings=SMALL), "")


async def test_older_messages_become_a_summary(here: Replica, model: FakeModelServer) -> None:
    model.script(ASKED, Step(text="Ada asked many questions.", usage={"prompt_tokens": 1000, "completion_tokens": 7}))
    agent = await here.agent(settings=SMALL)
    ended = await talk(here, agent, 4)
    (asked,) = summaries(model)
    assert "question 0:" in told(asked)[-1][1]
    assert "tools" not in asked.body
    (event,) = await compacted(here, agent)
    stored = await messages(here, agent)
    (summary,) = [message for message in stored if message.role is MessageRole.SUMMARY]
    assert summary.text == "Ada asked many questions."
    assert event.summary_message_id == ids.encode("msg", summary.id)
    assert event.tokens_after < event.tokens_before
    assert not event.truncated
    # All that was said is still in the log, and goes to recall memory.
    assert sum(message.role is MessageRole.USER for message in stored) == 4
    assert event.from_seq == stored[0].seq
    # The run that waited for it pays for it.
    run = next(run for run in ended if run.id == summary.run_id)
    assert run.usage.input_tokens > 1000
    # What the model saw: the summary first, then what it does not stand for.
    seen = told(model.book.requests[-1])
    assert seen[0][0] == "system"
    assert seen[1][1].endswith("Ada asked many questions.")
    assert "question 0:" not in str(seen)
    assert "question 3:" in seen[-1][1]
    (context,) = await here.core.runs.contexts(here.caller, ended[-1].id)
    assert [one.role for one in context.messages][:2] == ["summary", "user"]
    assert [one.text for one in context.messages if one.role == "summary"] == ["Ada asked many questions."]
    assert context.step.tokens is not None
    assert context.step.tokens.summary > 0
    assert context.step.tokens.sent == context.step.estimated_tokens
    assert context.step.estimated_tokens <= 3_000 - 750


async def test_the_next_summary_takes_over_from_the_one_before(here: Replica, model: FakeModelServer) -> None:
    model.script(ASKED, Step(text="Her dog is called Rex."), repeat=True)
    agent = await here.agent(settings=SMALL)
    await talk(here, agent, 9)
    assert len(summaries(model)) == len(await compacted(here, agent)) >= 2
    assert "Her dog is called Rex." in told(summaries(model)[1])[-1][1]
    first, second = (await compacted(here, agent))[:2]
    assert (first.from_seq, second.from_seq) == (2, 2)
    assert second.through_seq > first.through_seq


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        (Step(status=400, error="no"), "the model failed"),
        (Step(text=""), "the model wrote none"),
        (Step(text="half", garbage_after=1), "the model failed"),
    ],
)
async def test_without_a_model_it_is_cut_and_says_so(
    here: Replica, model: FakeModelServer, step: Step, cause: str
) -> None:
    model.script(ASKED, step, repeat=True)
    agent = await here.agent(settings=SMALL)
    await talk(here, agent, 4)
    (event,) = await compacted(here, agent)
    assert event.truncated
    (summary,) = [message for message in await messages(here, agent) if message.role is MessageRole.SUMMARY]
    assert cause in summary.text
    assert "user: question" in summary.text


async def test_a_model_of_its_own_writes_it(here: Replica, model: FakeModelServer) -> None:
    model.script(ASKED, Step(text="in short"), repeat=True)
    settings = replace(SMALL, compaction=CompactionSettings(model="openai/small"))
    await talk(here, await here.agent(settings=settings), 4)
    assert [seen.body["model"] for seen in summaries(model)] == ["small"]


async def test_switched_off_messages_are_left_out(here: Replica, model: FakeModelServer) -> None:
    agent = await here.agent(settings=replace(SMALL, compaction=CompactionSettings(enabled=False)))
    await talk(here, agent, 6)
    assert summaries(model) == []
    assert await compacted(here, agent) == []
    assert "question 0:" not in str(told(model.book.requests[-1]))


async def test_within_a_run_its_task_and_the_newest_results_stay(here: Replica, model: FakeModelServer) -> None:
    async def look(arguments: dict[str, object]) -> str:
        return f"page {arguments['page']}: {LONG}"

    here.tools.add("look", look)
    calls = [Step(tool_calls=[ScriptedCall("look", {"page": page}, id=f"c{page}")]) for page in range(9)]
    model.script("the task", *calls, Step(text="done"))
    model.script(ASKED, Step(text="Pages were read."), repeat=True)
    agent = await here.agent(tools=("look",), settings=SMALL)
    run = await here.finished(await here.start(agent, "the task"))
    assert (run.state, run.steps) == (RunState.SUCCEEDED, 10)
    assert len(await compacted(here, agent)) >= 1
    seen = told(model.book.requests[-1])
    assert [role for role, _ in seen[:3]] == ["system", "user", "user"]
    assert "Pages were read." in seen[1][1]
    assert "the task" in seen[2][1]
    assert "page 8" in seen[-1][1]
    contexts = await here.core.runs.contexts(here.caller, run.id)
    assert [one.role for one in contexts[-1].messages][:3] == ["summary", "user", "assistant"]
    assert contexts[-1].messages[-1].text.startswith("page 8")
    # What the next turn reads: not what the summary stands for, but the task, which is older.
    newest = [message for message in await messages(here, agent) if message.role is MessageRole.SUMMARY][-1]
    loaded = await here.outside.log.history(Lease(run.organization_id, run.conversation_id, 0), 64_000)
    assert newest.summarized is not None
    assert loaded[0].text == "the task"
    assert loaded[1].seq == newest.summarized.kept_seq
    assert newest.id in {message.id for message in loaded}
    assert not any(newest.summarized.covers(message) for message in loaded)


async def test_another_replica_begins_at_the_summary(addresses: Addresses, model: FakeModelServer) -> None:
    model.script(ASKED, Step(text="Questions were asked."), repeat=True)
    async with replica(addresses) as first:
        agent = await first.agent(settings=SMALL)
        await talk(first, agent, 4)
        caller = first.caller
        here_saw = told(model.book.requests[-1])
    async with replica(addresses) as second:
        second.caller = caller
        await talk(second, agent, 1, start=4)
        there_saw = told(model.book.requests[-1])
    kept = [text for _, text in here_saw[1:-1]]
    assert [text for _, text in there_saw[1 : 1 + len(kept)]] == kept
    assert len(summaries(model)) == 1


@pytest.mark.parametrize("where", ["before", "during"])
async def test_a_provider_that_says_too_long_gets_less(here: Replica, model: FakeModelServer, where: str) -> None:
    overflow = {"message": "too long", "code": "context_length_exceeded"}
    refused = (
        Step(status=400, error="context_length_exceeded: too long")
        if where == "before"
        else Step(text="I think", error_in_stream=overflow)
    )
    model.script("question 2", refused, Step(text="answered"))
    model.script(ASKED, Step(text="in short"), repeat=True)
    agent = await here.agent(settings=AgentSettings(passive_recall=False, context_window_tokens=8_000))
    await talk(here, agent, 3)
    (event,) = await compacted(here, agent)
    assert event.tokens_after < event.tokens_before
    assert (await here.messages(agent.default_conversation_id))[-1] == ("assistant", "answered")


async def test_a_provider_that_always_says_too_long_fails_the_run(here: Replica, model: FakeModelServer) -> None:
    model.script("hello", Step(status=400, error="context_length_exceeded: too long"), repeat=True)
    run = await here.finished(await here.start(await here.agent(), "hello"))
    assert run.error is not None
    assert run.error.reason == "CONTEXT_OVERFLOW"
    assert len(model.book.requests) == 3


async def test_no_room_at_all_is_said_clearly(here: Replica, model: FakeModelServer) -> None:
    run = await here.finished(
        await here.start(await here.agent(settings=AgentSettings(context_window_tokens=512)), "hi")
    )
    assert run.error is not None
    assert run.error.reason == "CONTEXT_OVERFLOW"
    assert model.book.requests == []


async def test_one_message_larger_than_the_window_is_answered(here: Replica, model: FakeModelServer) -> None:
    agent = await here.agent(settings=SMALL)
    run = await here.finished(await here.start(agent, "begin " + "m" * 50_000 + " end"))
    assert run.state is RunState.SUCCEEDED
    (context,) = await here.core.runs.contexts(here.caller, run.id)
    assert context.step.estimated_tokens <= 3_000 - 750


@pytest.mark.parametrize("point", ["summary.streaming", "summary.written"])
async def test_kill_9_around_the_summary(
    addresses: Addresses, model: FakeModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """A worker dies while the summary streams, or right after it was written: there is one summary, and every message."""
    model.script(ASKED, Step(text="Many questions were asked."), repeat=True)
    async with replica(addresses) as before:
        agent = await before.agent(settings=replace(SMALL, context_window_tokens=30_000))
        await talk(before, agent, 4)
        caller = before.caller
    monkeypatch.setenv("HEARTH_FAILPOINTS", str(tmp_path))
    monkeypatch.setenv("HEARTH_ENVIRONMENT", "development")
    failpoints.plant(tmp_path, point, "kill")
    async with replica(addresses, concurrency=0) as watching:
        watching.caller = caller
        await shrink(watching, agent)
        async with worker_process(addresses) as process:
            run = await watching.start(agent, "and now?")
            await asyncio.wait_for(asyncio.to_thread(process.wait), 30)
        await lose_lease(watching, run)
        async with replica(addresses) as successor:
            successor.caller = caller
            assert (await watching.finished(run)).state is RunState.SUCCEEDED
            assert len(await compacted(watching, agent)) == 1
            assert len(summaries(model)) == (2 if point == "summary.streaming" else 1)
            stored = await messages(watching, agent)
            assert [message.role.name for message in stored].count("SUMMARY") == 1
            assert [message.role.name for message in stored].count("USER") == 5
            frames = await watching.follow(run)
    assert types(frames).count(E.CONTEXT_COMPACTED) == 1
    seen = told(model.book.requests[-1])
    assert "Many questions were asked." in seen[1][1]
    assert "and now?" in seen[-1][1]
