"""Tool rules and limits of a run over the real database, bus and model protocol."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from agent_svc.domain.agent import AgentSettings
from agent_svc.domain.changes import AgentChange
from agent_svc.domain.event import EventType
from agent_svc.domain.run import BusyPolicy, Run, RunState, RunStopReason
from agent_svc.domain.run_input import RunExtras
from agent_svc.domain.tool import Tool
from agent_svc.domain.tool_rules import AllowedAfter, MaxPerRun, RequiredBeforeExit, RunFirst, Terminal
from agent_svc.interfaces.run_log import RunLog
from agent_svc.managers.run_manager import Target
from agent_svc.repositories.run_log import PostgresRunLog
from chassis.errors import Aborted
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica, types, until
from tests.integration.agent_svc.test_durability import lose_lease, worker_process

E = EventType


def calls(*names: str) -> Step:
    return Step(tool_calls=[ScriptedCall(name) for name in names])


def add_tools(here: Replica, *names: str) -> list[str]:
    """Tools that answer with their names; returns the book of what was executed, in order of begin and end."""
    book: list[str] = []

    def behaviour(name: str) -> Callable[[dict[str, object]], Any]:
        async def act(arguments: dict[str, object]) -> str:
            book.append(f"+{name}")
            await asyncio.sleep(0)
            book.append(f"-{name}")
            return f"{name} done"

        return act

    for name in names:
        here.tools.add(name, behaviour(name))
    return book


def offered(model: FakeModelServer) -> list[list[str] | None]:
    """The tools of each request, the built-in ones left out; None where no tools were sent."""
    found: list[list[str] | None] = []
    for request in model.book.requests:
        tools = request.body.get("tools")
        names = [tool["function"]["name"] for tool in tools or []]
        found.append(None if tools is None else [name for name in names if "_" not in name])
    return found


async def test_only_what_the_rules_allow_is_offered_and_the_first_call_is_required(
    here: Replica, model: FakeModelServer
) -> None:
    book = add_tools(here, "look", "act", "log")
    rules = (RunFirst(("look",)), AllowedAfter("look", ("act",)), MaxPerRun("act", 1), AllowedAfter("act", ()))
    model.script("go", calls("look"), calls("act"), Step(text="Done."))
    agent = await here.agent(tools=("look", "act", "log"), tool_rules=rules)
    ended = await here.finished(await here.start(agent, "go"))
    assert (ended.state, ended.stop_reason, ended.steps) == (RunState.SUCCEEDED, RunStopReason.FINAL_ANSWER, 3)
    assert offered(model) == [["look"], ["act"], None]
    assert [request.body.get("tool_choice") for request in model.book.requests] == ["required", None, None]
    assert book == ["+look", "-look", "+act", "-act"]
    contexts = await here.core.runs.contexts(here.caller, ended.id)
    assert [context.step.tool_names for context in contexts] == [("look",), ("act",), ()]


async def test_a_forbidden_call_is_told_and_not_executed_and_the_run_goes_on(
    here: Replica, model: FakeModelServer
) -> None:
    book = add_tools(here, "look", "act")
    model.script("go", calls("act", "look", "act"), Step(text="Done."))
    agent = await here.agent(tools=("look", "act"), tool_rules=(RunFirst(("look",)),))
    run = await here.start(agent, "go")
    seen = types(await here.follow(run))
    assert book == ["+look", "-look", "+act", "-act"]
    told = [text for role, text in await here.messages(agent.default_conversation_id) if role == "tool"]
    assert told == [
        "The tool was not run: 'act' may not be called yet: 'look' must be called before it. "
        "Tools that you may call now: look.",
        "look done",
        "act done",
    ]
    # One after the other: no call begins before the one ahead of it has its result.
    assert [one for one in seen if one in (E.TOOL_CALL_STARTED, E.TOOL_CALL_COMPLETED)] == [
        E.TOOL_CALL_STARTED,
        E.TOOL_CALL_COMPLETED,
    ] * 3
    assert seen[-1] is E.RUN_SUCCEEDED


async def test_a_terminal_tool_ends_the_run_without_another_model_call(here: Replica, model: FakeModelServer) -> None:
    book = add_tools(here, "send", "look")
    model.script("go", calls("look", "send", "look"), Step(text="never asked for"))
    agent = await here.agent(tools=("send", "look"), tool_rules=(Terminal("send"),))
    ended = await here.finished(await here.start(agent, "go"))
    assert (ended.state, ended.stop_reason, ended.steps) == (RunState.SUCCEEDED, RunStopReason.TERMINAL_TOOL, 1)
    assert book == ["+look", "-look", "+send", "-send"]
    assert len(model.book.requests) == 1
    # The conversation is usable afterwards.
    model.script("more", Step(text="Yes."))
    assert (await here.finished(await here.start(agent, "more"))).stop_reason is RunStopReason.FINAL_ANSWER


async def test_a_terminal_tool_that_failed_does_not_end_the_run(here: Replica, model: FakeModelServer) -> None:
    async def send(arguments: dict[str, object]) -> str:
        raise ValueError("no such address")

    here.tools.add("send", send)
    model.script("go", calls("send"), Step(text="I could not send it."))
    agent = await here.agent(tools=("send",), tool_rules=(Terminal("send"),))
    ended = await here.finished(await here.start(agent, "go"))
    assert (ended.state, ended.stop_reason, ended.steps) == (RunState.SUCCEEDED, RunStopReason.FINAL_ANSWER, 2)


async def test_an_answer_before_the_required_call_is_sent_back(here: Replica, model: FakeModelServer) -> None:
    add_tools(here, "log")
    model.script("go", Step(text="Done!"), calls("log"), Step(text="Now it is done."))
    agent = await here.agent(tools=("log",), tool_rules=(RequiredBeforeExit("log"),))
    ended = await here.finished(await here.start(agent, "go"))
    assert (ended.state, ended.steps) == (RunState.SUCCEEDED, 3)
    assert await here.messages(agent.default_conversation_id) == [
        ("user", "go"),
        ("assistant", "Done!"),
        ("assistant", ""),
        ("tool", "log done"),
        ("assistant", "Now it is done."),
    ]
    first, second, third = (request.body for request in model.book.requests)
    assert "tool_choice" not in first
    assert second["tool_choice"] == "required"
    assert second["messages"][-2] == {"role": "assistant", "content": "Done!"}
    assert "must call log first" in second["messages"][-1]["content"]
    assert "tool_choice" not in third
    assert "must call" not in json.dumps(third)


async def test_a_model_that_never_makes_the_required_call_reaches_the_limit_of_steps(
    here: Replica, model: FakeModelServer
) -> None:
    add_tools(here, "log")
    model.script("go", Step(text="Done!"), repeat=True)
    rules = (RequiredBeforeExit("log"),)
    agent = await here.agent(tools=("log",), tool_rules=rules, settings=AgentSettings(max_steps=3))
    ended = await here.finished(await here.start(agent, "go"))
    assert (ended.state, ended.stop_reason, ended.steps) == (RunState.FAILED, RunStopReason.STEP_LIMIT, 3)
    assert ended.error is not None
    assert ended.error.reason == "STEP_LIMIT_REACHED"


async def test_rules_that_cannot_be_kept_fail_the_run_at_once(here: Replica, model: FakeModelServer) -> None:
    book = add_tools(here, "look", "log")
    model.script("go", calls("look"), Step(text="never asked for"))
    rules = (AllowedAfter("look", ()), RequiredBeforeExit("log"))
    agent = await here.agent(tools=("look", "log"), tool_rules=rules)
    ended = await here.finished(await here.start(agent, "go"))
    assert (ended.state, ended.stop_reason, ended.steps) == (RunState.FAILED, RunStopReason.ERROR, 1)
    assert ended.error is not None
    assert ended.error.reason == "TOOL_RULES_UNSATISFIABLE"
    assert "log" in ended.error.message
    assert book == ["+look", "-look"]


async def test_built_in_tools_have_rules_too(here: Replica, model: FakeModelServer) -> None:
    model.script(
        "go", Step(tool_calls=[ScriptedCall("archival_memory_search", {"query": "tea"})]), Step(text="Found it.")
    )
    agent = await here.agent(tool_rules=(RunFirst(("archival_memory_search",)),))
    assert (await here.finished(await here.start(agent, "go"))).state is RunState.SUCCEEDED
    first = model.book.requests[0].body
    assert [tool["function"]["name"] for tool in first["tools"]] == ["archival_memory_search"]


async def test_the_successor_of_a_killed_worker_keeps_the_rules(addresses: Addresses, model: FakeModelServer) -> None:
    """Everything comes from the log: the first call was made, one answer was sent back, one call of two is used up."""
    rules = (
        RunFirst(("conversation_search",)),
        RequiredBeforeExit("core_memory_append"),
        MaxPerRun("conversation_search", 1),
    )
    search = Step(tool_calls=[ScriptedCall("conversation_search", {"query": "x"})])
    append = Step(tool_calls=[ScriptedCall("core_memory_append", {"label": "human", "content": "x"})])
    model.script(
        "go",
        search,
        Step(text="Done!"),
        Step(text="a long one that is cut", gate="g", gate_after=2),
        search,
        append,
        Step(text="Now it is done."),
    )
    async with replica(addresses, concurrency=0) as watching:
        agent = await watching.agent(tool_rules=rules)
        async with worker_process(addresses) as process:
            run = await watching.start(agent, "go")
            await model.until(lambda book: len(book.requests) == 3 and book.in_flight == 1, timeout_s=20)
            process.kill()
            process.wait()
        async with replica(addresses):
            ended = await watching.finished(run)
        assert (ended.state, ended.stop_reason) == (RunState.SUCCEEDED, RunStopReason.FINAL_ANSWER)
        bodies = [request.body for request in model.book.requests]
        names = [{tool["function"]["name"] for tool in body["tools"]} for body in bodies]
        assert names[0] == {"conversation_search"}
        assert all("conversation_search" not in later and "core_memory_append" in later for later in names[1:])
        # The one that died and its successor asked the same.
        assert [body.get("tool_choice") for body in bodies] == [
            "required",
            None,
            "required",
            "required",
            None,
            None,
        ]
        told = [text for role, text in await watching.messages(agent.default_conversation_id) if role == "tool"]
        assert [text.partition(":")[0] for text in told] == ["Nothing was found.", "The tool was not run", "Done."]


async def test_a_call_not_begun_when_its_worker_was_lost_is_not_called_unknown(
    addresses: Addresses, model: FakeModelServer
) -> None:
    """One after the other, each call has its ledger row only when its turn has come."""
    asked = asyncio.Event()
    async with replica(addresses) as first:

        async def hang(arguments: dict[str, object]) -> str:
            asked.set()
            await asyncio.sleep(3600)
            return ""

        first.tools.add("hang", hang)
        book = add_tools(first, "act")
        model.script("go", calls("hang", "act"), Step(text="Done."))
        agent = await first.agent(tools=("hang", "act"), settings=AgentSettings(parallel_tool_calls=False))
        run = await first.start(agent, "go")
        await asyncio.wait_for(asked.wait(), 20)
        await lose_lease(first, run)
        async with replica(addresses, tools=first.tools) as second:
            second.caller = first.caller
            assert (await second.finished(run)).state is RunState.SUCCEEDED
            told = [text for role, text in await second.messages(agent.default_conversation_id) if role == "tool"]
        assert "not known" in told[0]
        assert told[1] == "act done"
        assert book == ["+act", "-act"]
        assert model.book.requests[0].body["parallel_tool_calls"] is False


async def test_messages_beyond_what_a_worker_reads_of_a_conversation_still_count(
    addresses: Addresses, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_svc.managers.worker.HISTORY_TOKENS", 60)
    model.script(
        "go",
        Step(tool_calls=[ScriptedCall("conversation_search", {"query": "x"})]),
        Step(tool_calls=[ScriptedCall("archival_memory_search", {"query": "long " * 60})]),
        Step(text="cut off here", gate="g", gate_after=1),
        Step(text="Done."),
    )
    rules = (RunFirst(("conversation_search",)), MaxPerRun("conversation_search", 1))
    async with replica(addresses) as first:
        agent = await first.agent(tool_rules=rules)
        run = await first.start(agent, "go")
        await model.until(lambda book: len(book.requests) == 3 and book.in_flight == 1, timeout_s=20)
        await lose_lease(first, run)
        async with replica(addresses) as second:
            second.caller = first.caller
            assert (await second.finished(run)).state is RunState.SUCCEEDED
    last = model.book.requests[-1].body
    names = [tool["function"]["name"] for tool in last["tools"]]
    assert "conversation_search" not in names
    assert len(names) == 4
    assert "go" not in [message["content"] for message in last["messages"]]


async def test_agents_without_rules_read_nothing_more(
    here: Replica, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(self: RunLog, *arguments: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(PostgresRunLog, "run_messages", never)
    monkeypatch.setattr("agent_svc.managers.rulings.rule", never)
    add_tools(here, "look")
    model.script("go", calls("look"), Step(text="Done."))
    agent = await here.agent(tools=("look",))
    assert (await here.finished(await here.start(agent, "go"))).state is RunState.SUCCEEDED
    assert {"tool_choice", "parallel_tool_calls"}.isdisjoint(model.book.requests[0].body)


async def _failed(here: Replica, run: Run) -> tuple[RunStopReason, str, int]:
    ended = await here.finished(run)
    assert ended.state is RunState.FAILED
    assert ended.error is not None
    return ended.stop_reason, ended.error.reason, ended.steps


async def test_the_limit_of_tokens_is_checked_before_each_model_call(here: Replica, model: FakeModelServer) -> None:
    add_tools(here, "look")
    spent = {"prompt_tokens": 60, "completion_tokens": 20}
    step = Step(tool_calls=[ScriptedCall("look")], usage=spent)
    model.script("go", step, step, step, step)
    agent = await here.agent(tools=("look",), settings=AgentSettings(max_run_tokens=170))
    run = await here.start(agent, "go")
    assert await _failed(here, run) == (RunStopReason.TOKEN_LIMIT, "TOKEN_LIMIT_REACHED", 3)
    # An answer that goes beyond it is an answer.
    model.script("once", Step(text="Fine.", usage={"prompt_tokens": 500, "completion_tokens": 20}))
    assert (await here.finished(await here.start(agent, "once"))).state is RunState.SUCCEEDED


async def test_what_a_provider_does_not_count_is_estimated(here: Replica, model: FakeModelServer) -> None:
    add_tools(here, "look")
    model.script("go", *[Step(tool_calls=[ScriptedCall("look")], omit=["usage"])] * 5)
    agent = await here.agent(tools=("look",), settings=AgentSettings(max_run_tokens=100))
    assert (await _failed(here, await here.start(agent, "go")))[0] is RunStopReason.TOKEN_LIMIT


async def test_an_answer_is_not_corrected_beyond_the_limit_of_tokens(here: Replica, model: FakeModelServer) -> None:
    model.script("go", Step(text="no JSON", usage={"prompt_tokens": 60, "completion_tokens": 20}), Step(text="{}"))
    agent = await here.agent(settings=AgentSettings(max_run_tokens=80))
    extras = RunExtras((), json.dumps({"type": "object"}))
    run = await here.core.runs.start(here.caller, Target(agent_id=agent.id), "go", BusyPolicy.QUEUE, None, b"", extras)
    assert await _failed(here, run) == (RunStopReason.TOKEN_LIMIT, "TOKEN_LIMIT_REACHED", 1)
    assert len(model.book.requests) == 1


async def test_the_limit_of_seconds_ends_a_run(here: Replica, model: FakeModelServer) -> None:
    model.script("go", Step(text="one two three", stall_after=1))
    agent = await here.agent(settings=AgentSettings(max_run_seconds=1))
    run = await here.start(agent, "go")
    assert await _failed(here, run) == (RunStopReason.TIME_LIMIT, "TIME_LIMIT_REACHED", 0)
    await until(lambda: model.book.in_flight == 0)


async def test_the_limit_of_seconds_counts_from_the_first_worker(addresses: Addresses, model: FakeModelServer) -> None:
    """A successor gives a run only what is left of its time."""

    class Later(PostgresRunLog):
        async def claim(self, dispatch: Any, ask: Any) -> Any:
            turn = await super().claim(dispatch, ask)
            if turn is None:
                return None
            return replace(turn, run=replace(turn.run, start_time=datetime.now(UTC) - timedelta(seconds=3600)))

    model.script("go", Step(text="one two three", stall_after=1))
    async with replica(addresses, plant=lambda outside, pool: replace(outside, log=Later(pool))) as here:
        agent = await here.agent(settings=AgentSettings(max_run_seconds=3000))
        run = await here.start(agent, "go")
        assert (await _failed(here, run))[0] is RunStopReason.TIME_LIMIT


async def test_calls_run_at_the_same_time_only_where_they_may(here: Replica, model: FakeModelServer) -> None:
    async def slow(arguments: dict[str, object]) -> str:
        await asyncio.sleep(0.2)
        return "ok"

    here.tools.add("slow", slow)
    for number, (settings, rules, most) in enumerate(
        [
            (AgentSettings(), (), 3),
            (AgentSettings(parallel_tool_calls=True), (MaxPerRun("slow", 3),), 3),
            (AgentSettings(parallel_tool_calls=False), (), 1),
            (AgentSettings(), (AllowedAfter("slow", ("slow",)),), 1),
        ]
    ):
        here.tools.most_running = 0
        model.script(f"go {number}", calls("slow", "slow", "slow"), Step(text="Done."))
        agent = await here.agent(tools=("slow",), settings=settings, tool_rules=rules)
        assert (await here.finished(await here.start(agent, f"go {number}"))).state is RunState.SUCCEEDED
        assert here.tools.most_running == most


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{", "not valid JSON"),
        ('["a"]', "must be one JSON object"),
        ('"{}"', "must be one JSON object"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply"),
    ],
    ids=["cut", "array", "text", "deep"],
)
async def test_malformed_arguments_are_told(here: Replica, model: FakeModelServer, arguments: str, told: str) -> None:
    book = add_tools(here, "look")
    model.script("go", Step(tool_calls=[ScriptedCall("look", arguments)]), calls("look"), Step(text="Done."))
    agent = await here.agent(tools=("look",), tool_rules=(MaxPerRun("look", 1),))
    assert (await here.finished(await here.start(agent, "go"))).state is RunState.SUCCEEDED
    results = [text for role, text in await here.messages(agent.default_conversation_id) if role == "tool"]
    assert told in results[0]
    assert results[1] == "look done"
    assert book == ["+look", "-look"]


async def test_a_call_that_breaks_a_built_in_tools_schema_is_told(here: Replica, model: FakeModelServer) -> None:
    model.script(
        "go", Step(tool_calls=[ScriptedCall("core_memory_append", {"label": "human", "text": "x"})]), Step(text="Done.")
    )
    agent = await here.agent()
    assert (await here.finished(await here.start(agent, "go"))).state is RunState.SUCCEEDED
    (told,) = [text for role, text in await here.messages(agent.default_conversation_id) if role == "tool"]
    assert told.startswith("The arguments do not fit the tool's schema: ")
    assert told.endswith("Call it again with arguments that do.")


async def test_a_rule_is_kept_through_an_update_of_other_things(here: Replica) -> None:
    add_tools(here, "look")
    agent = await here.agent(tools=("look",), tool_rules=(Terminal("look"), AllowedAfter("look", ())))
    changed = await here.core.agents.update(here.caller, agent.id, AgentChange(description="x"), "")
    assert changed.tool_rules == agent.tool_rules
    assert (await here.core.agents.get(here.caller, agent.id, "")).tool_rules == agent.tool_rules


async def test_an_update_between_the_look_at_the_rules_and_the_change_is_noticed(
    here: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tools(here, "look", "act")
    agent = await here.agent(tools=("look", "act"))
    get_many = here.tools.get_many

    async def and_meanwhile(tool_ids: Sequence[UUID]) -> Sequence[Tool]:
        monkeypatch.setattr(here.tools, "get_many", get_many)
        await here.core.agents.update(here.caller, agent.id, AgentChange(tool_ids=()), "")
        return await get_many(tool_ids)

    monkeypatch.setattr(here.tools, "get_many", and_meanwhile)
    with pytest.raises(Aborted):
        await here.core.agents.update(here.caller, agent.id, AgentChange(tool_rules=(Terminal("look"),)), "")
    assert (await here.core.agents.get(here.caller, agent.id, "")).tool_rules == ()
