"""Turns over the real database, bus and model protocol: answers, tools, queues, limits, failures."""

import asyncio

import pytest

from agent_svc.domain.agent import AgentSettings
from agent_svc.domain.event import EventType
from agent_svc.domain.frame import DeltaFrame
from agent_svc.domain.run import RunState, RunStopReason
from agent_svc.repositories.prepared import Prepared
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica, seqs, types, until

E = EventType


async def test_a_turn(here: Replica, model: FakeModelServer) -> None:
    model.script("dog", Step(text="A fine name for a dog."))
    agent = await here.agent()
    run = await here.start(agent, "My dog is called Rex.")
    frames = await here.follow(run)
    assert types(frames) == [E.RUN_QUEUED, E.MESSAGE_COMPLETED, E.RUN_STARTED, E.MESSAGE_COMPLETED, E.RUN_SUCCEEDED]
    assert seqs(frames) == [1, 2, 3, 4, 5]
    ended = await here.core.runs.get(here.caller, run.id)
    assert (ended.state, ended.stop_reason, ended.steps) == (RunState.SUCCEEDED, RunStopReason.FINAL_ANSWER, 1)
    assert ended.usage.input_tokens > 0
    assert await here.messages(agent.default_conversation_id) == [
        ("user", "My dog is called Rex."),
        ("assistant", "A fine name for a dog."),
    ]


async def test_the_answer_streams_in_pieces_that_make_the_message(here: Replica, model: FakeModelServer) -> None:
    text = "one two three four five six seven eight nine ten"
    model.script("count", Step(text=text, token_delay_ms=15))
    deltas = [frame for frame in await here.send(await here.agent(), "count") if isinstance(frame, DeltaFrame)]
    assert "".join(delta.text for delta in deltas) == text
    assert 2 <= len(deltas) < 10
    assert {delta.attempt for delta in deltas} == {1}


async def test_the_second_turn_sees_the_first_and_the_memory(here: Replica, model: FakeModelServer) -> None:
    here.memory.core = "<memory_blocks>Ada likes tea.</memory_blocks>"
    here.memory.recalled = "- Rex is a dog."
    agent = await here.agent()
    await here.finished(await here.start(agent, "My dog is called Rex."))
    run = await here.start(agent, "What is my dog called?")
    await here.finished(run)
    sent = model.book.requests[-1].body["messages"]
    assert [message["role"] for message in sent] == ["system", "user", "assistant", "user"]
    assert "Ada likes tea." in sent[0]["content"]
    assert sent[1]["content"] == "My dog is called Rex."
    assert "- Rex is a dog." in sent[3]["content"]
    (context,) = await here.core.runs.contexts(here.caller, run.id)
    assert context.step.recalled_text == "- Rex is a dog."
    assert "Ada likes tea." in context.step.system_text
    assert [message.text for message in context.messages][::2] == ["My dog is called Rex.", "What is my dog called?"]
    assert here.memory.compiled[-1][0] == "What is my dog called?"
    assert here.memory.compiled[-1][2] == 2


async def test_passive_recall_can_be_off(here: Replica) -> None:
    agent = await here.agent(settings=AgentSettings(passive_recall=False))
    await here.finished(await here.start(agent, "hello"))
    assert here.memory.compiled == [("", 0, 0)]


async def test_a_tool_turn(here: Replica, model: FakeModelServer) -> None:
    async def add(arguments: dict[str, object]) -> str:
        return str(int(str(arguments["a"])) + int(str(arguments["b"])))

    here.tools.add("add", add)
    model.script("sum", Step(tool_calls=[ScriptedCall("add", {"a": 2, "b": 3}, id="c1")]), Step(text="It is 5."))
    agent = await here.agent(tools=("add",))
    run = await here.start(agent, "the sum?")
    assert types(await here.follow(run)) == [
        E.RUN_QUEUED,
        E.MESSAGE_COMPLETED,
        E.RUN_STARTED,
        E.MESSAGE_COMPLETED,
        E.TOOL_CALL_STARTED,
        E.TOOL_CALL_COMPLETED,
        E.MESSAGE_COMPLETED,
        E.MESSAGE_COMPLETED,
        E.RUN_SUCCEEDED,
    ]
    assert await here.messages(agent.default_conversation_id) == [
        ("user", "the sum?"),
        ("assistant", ""),
        ("tool", "5"),
        ("assistant", "It is 5."),
    ]
    offered = [tool["function"]["name"] for tool in model.book.requests[0].body["tools"]]
    assert offered == [
        "core_memory_append",
        "core_memory_replace",
        "archival_memory_insert",
        "archival_memory_search",
        "conversation_search",
        "add",
    ]
    assert model.book.requests[1].body["messages"][-1] == {"role": "tool", "tool_call_id": "c1", "content": "5"}


async def test_memory_tools_and_their_event(here: Replica, model: FakeModelServer) -> None:
    calls = [
        ScriptedCall("core_memory_append", {"label": "human", "content": "Likes tea."}),
        ScriptedCall("archival_memory_insert", {"content": "Met in May.", "tags": ["may"]}),
        ScriptedCall("archival_memory_search", {"query": "tea"}),
    ]
    model.script("note", Step(tool_calls=calls), Step(text="Noted."))
    agent = await here.agent()
    events = types(await here.follow(await here.start(agent, "note this")))
    assert events.count(E.MEMORY_UPDATED) == 2
    assert events[-1] is E.RUN_SUCCEEDED
    assert sorted(here.memory.changes.values()) == ["Likes tea.", "Met in May."]
    told = [text for role, text in await here.messages(agent.default_conversation_id) if role == "tool"]
    assert sorted(told) == ["- passage about tea", "Done.", "Done."]


async def test_parallel_calls_run_at_the_same_time(here: Replica, model: FakeModelServer) -> None:
    async def slow(arguments: dict[str, object]) -> str:
        await asyncio.sleep(0.2)
        return "done"

    here.tools.add("slow", slow)
    model.script("thrice", Step(tool_calls=[ScriptedCall("slow") for _ in range(3)]), Step(text="ok"))
    run = await here.start(await here.agent(tools=("slow",)), "thrice")
    assert (await here.finished(run)).state is RunState.SUCCEEDED
    assert here.tools.most_running == 3


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (ScriptedCall("no_such_tool", {}), "There is no tool named 'no_such_tool'"),
        (ScriptedCall("broken", "{not json"), "not valid JSON"),
        (ScriptedCall("broken", "[1]"), "must be one JSON object"),
        (ScriptedCall("broken", {}), "ValueError: on purpose"),
        (ScriptedCall("core_memory_append", {"label": 3}), "do not fit the tool's schema"),
        (ScriptedCall("core_memory_append", {"label": "nobody", "content": "x"}), "was not found"),
    ],
)
async def test_a_call_that_goes_wrong_is_told_to_the_model(
    here: Replica, model: FakeModelServer, call: ScriptedCall, told: str
) -> None:
    async def broken(arguments: dict[str, object]) -> str:
        raise ValueError("on purpose")

    here.tools.add("broken", broken)
    model.script("try", Step(tool_calls=[call]), Step(text="Sorry."))
    agent = await here.agent(tools=("broken",))
    assert (await here.finished(await here.start(agent, "try"))).state is RunState.SUCCEEDED
    roles = dict(await here.messages(agent.default_conversation_id))
    assert told in roles["tool"]


async def test_the_limit_of_steps(here: Replica, model: FakeModelServer) -> None:
    model.script("loop", Step(tool_calls=[ScriptedCall("archival_memory_search", {"query": "x"})]), repeat=True)
    agent = await here.agent(settings=AgentSettings(max_steps=3))
    ended = await here.finished(await here.start(agent, "loop"))
    assert (ended.state, ended.stop_reason, ended.steps) == (RunState.FAILED, RunStopReason.STEP_LIMIT, 3)
    assert ended.error is not None
    assert ended.error.reason == "STEP_LIMIT_REACHED"
    await here.finished(await here.start(agent, "never mind"))


async def test_a_model_that_is_down_fails_the_run_and_the_next_message_works(
    here: Replica, model: FakeModelServer
) -> None:
    model.script("broken", Step(status=400, error="no"))
    agent = await here.agent()
    failed = await here.finished(await here.start(agent, "this is broken"))
    assert failed.state is RunState.FAILED
    assert failed.error is not None
    assert failed.error.reason == "MODEL_REJECTED"
    assert failed.error.message
    model.book.scripts.clear()
    assert (await here.finished(await here.start(agent, "and now?"))).state is RunState.SUCCEEDED
    assert [role for role, _ in await here.messages(agent.default_conversation_id)] == ["user", "user", "assistant"]


async def test_an_answer_that_breaks_off_is_begun_again(here: Replica, model: FakeModelServer) -> None:
    model.script("cut", Step(text="half an answer that breaks", token_delay_ms=5, cut_after=2), Step(text="whole"))
    agent = await here.agent()
    frames = await here.send(agent, "cut")
    assert E.STEP_RESTARTED in types(frames)
    assert types(frames)[-1] is E.RUN_SUCCEEDED
    attempts = [frame.attempt for frame in frames if isinstance(frame, DeltaFrame)]
    assert attempts == sorted(attempts)
    assert attempts[-1] == 2
    assert (await here.messages(agent.default_conversation_id))[-1] == ("assistant", "whole")


async def test_an_answer_that_always_breaks_off_fails_the_run(here: Replica, model: FakeModelServer) -> None:
    model.script("cut", Step(text="half an answer", token_delay_ms=5, cut_after=2), repeat=True)
    ended = await here.finished(await here.start(await here.agent(), "cut"))
    assert ended.state is RunState.FAILED
    assert ended.error is not None
    assert ended.error.reason in ("MODEL_PROTOCOL_ERROR", "MODEL_UNAVAILABLE")


async def test_eight_messages_at_once_get_answers_in_one_order_and_the_ninth_sees_all(
    here: Replica, model: FakeModelServer
) -> None:
    agent = await here.agent()
    runs = await asyncio.gather(*(here.start(agent, f"message {number}") for number in range(8)))
    ended = await asyncio.gather(*(here.finished(run) for run in runs))
    assert {run.state for run in ended} == {RunState.SUCCEEDED}
    in_order = sorted(ended, key=lambda run: run.first_seq)
    starts = [run.start_time for run in in_order if run.start_time]
    ends = [run.end_time for run in in_order if run.end_time]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    await here.finished(await here.start(agent, "the ninth"))
    sent = model.book.requests[-1].body["messages"]
    asked = [message["content"] for message in sent if message["role"] == "user"]
    assert asked[:-1] == [run.input_preview for run in in_order]
    assert [message["role"] for message in sent[1:]] == ["user", "assistant"] * 8 + ["user"]
    log = await here.log(agent.default_conversation_id)
    assert seqs(log) == list(range(1, 9 * 5 + 1))


async def test_memory_that_stays_away_fails_the_run_with_a_reason(addresses: Addresses) -> None:
    async with replica(addresses, patience_s=0.3) as here:
        agent = await here.agent()
        here.memory.away = True
        failed = await here.finished(await here.start(agent, "hello"))
        assert failed.error is not None
        assert failed.error.reason == "DEPENDENCY_UNAVAILABLE"
        here.memory.away = False
        assert (await here.finished(await here.start(agent, "again"))).state is RunState.SUCCEEDED


async def test_memory_that_comes_back_in_time_is_waited_for(here: Replica) -> None:
    agent = await here.agent()
    here.memory.away = True
    run = await here.start(agent, "hello")
    await asyncio.sleep(0.5)
    here.memory.away = False
    assert (await here.finished(run)).state is RunState.SUCCEEDED


async def test_messages_are_indexed_also_after_memory_was_away(here: Replica) -> None:
    agent = await here.agent()
    run = await here.start(agent, "remember me")
    await here.follow(run)
    here.memory.away = True
    await asyncio.sleep(1.0)
    assert here.memory.indexed == []
    here.memory.away = False
    await until(lambda: len(here.memory.indexed) == 2)
    assert [seq for _, seq, _ in here.memory.indexed] == [2, 4]

    dispatches = Prepared("test_dispatches", "SELECT 1 FROM dispatches")

    async def nothing_left() -> bool:
        return await here.pool.run([dispatches], {}) == [[]]

    await until(nothing_left)
