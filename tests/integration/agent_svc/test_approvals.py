"""Runs that wait for a person: held by nobody, gone on with exactly, decided once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import cast
from uuid import UUID

import grpc
import pytest

from agent_svc.domain.agent import Agent, AgentSettings
from agent_svc.domain.approval import ApprovalPolicy, Decision
from agent_svc.domain.event import EventType
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.log import Dispatch, Turn, TurnAsk
from agent_svc.domain.run import BusyPolicy, Run, RunState
from agent_svc.domain.tool_rules import AllowedAfter, MaxPerRun, RunFirst
from agent_svc.factory import Outside
from agent_svc.repositories.log_pool import LogPool
from agent_svc.repositories.prepared import Prepared
from agent_svc.repositories.run_log import PostgresRunLog
from chassis import failpoints, ids
from chassis.errors import DomainError, FailedPrecondition, NotFound
from chassis.identity import Identity, Role
from hearth.agent.v1 import event_pb2, run_pb2, run_service_pb2
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.grpc_client import Client, refused
from tests.integration.agent_svc.outside import ToolsInProcess
from tests.integration.agent_svc.paying_worker import pay_with, paying_worker
from tests.integration.agent_svc.replica import Addresses, Replica, replica, seqs, types, until
from tests.support.issuer import Issuer

E = EventType
YES, NO = Decision(approved=True, reason=""), Decision(approved=False, reason="Too expensive.")
_ROW = Prepared(
    "test_waiting_row",
    "SELECT waiting, lease_owner, (SELECT due_time = 'infinity' FROM dispatches WHERE conversation_id = %(conversation)s) "
    "FROM conversations WHERE id = %(conversation)s",
)


def script(model: FakeModelServer, *, again: bool = False) -> str:
    """A text at which the model asks for `pay`, and for `look` beside it (and for `pay` again), and then answers."""
    mark = f"pay {ids.new().hex}"
    calls = [ScriptedCall("pay", {"euro": 5}, id="c1"), ScriptedCall("look", {}, id="c2")]
    if again:
        calls.append(ScriptedCall("pay", {"euro": 6}, id="c3"))
    model.script(mark, Step(tool_calls=calls), Step(text="That is settled."))
    return mark


def tools() -> ToolsInProcess:
    made = ToolsInProcess()
    made.add("pay", _done, asks=True)
    made.add("look", _done)
    return made


async def waiting(here: Replica, run: Run) -> event_pb2.ApprovalRequested:
    """What the run asks, once it waits."""

    async def waits() -> bool:
        return (await here.core.runs.get(here.caller, run.id)).state is RunState.WAITING

    await until(waits)
    asked = [frame for frame in await here.log(run.conversation_id) if frame.type is E.APPROVAL_REQUESTED]
    return event_pb2.RunEvent.FromString(asked[-1].body).approval_requested


async def resolve(
    here: Replica,
    run: Run,
    asked: event_pb2.ApprovalRequested,
    decision: Decision = YES,
    *,
    caller: Identity | None = None,
    hashed: str | None = None,
) -> Run:
    return await here.core.approvals.resolve(
        caller or here.caller,
        run.id,
        ids.decode("appr", asked.approval_id),
        asked.arguments_hash if hashed is None else hashed,
        decision,
    )


async def row(here: Replica, conversation_id: UUID) -> tuple[bool, str | None, bool]:
    values = {"conversation": conversation_id}
    ((found,),) = await here.pool.tenant(here.caller.organization_id, [_ROW], values)
    return found[0], found[1], found[2]


async def asking(here: Replica, model: FakeModelServer) -> tuple[Agent, Run, event_pb2.ApprovalRequested]:
    """A run that waits."""
    agent = await here.agent(tools=("pay", "look"))
    run = await here.start(agent, script(model))
    return agent, run, await waiting(here, run)


async def whole(here: Replica, run: Run) -> list[EventFrame]:
    log = await here.log(run.conversation_id)
    assert seqs(log) == list(range(1, len(log) + 1))
    return log


async def test_an_approved_call_is_made(addresses: Addresses, model: FakeModelServer) -> None:
    async with replica(addresses, tools=tools()) as here:
        agent, run, asked = await asking(here, model)
        assert [(call.name, call.arguments_json) for call in asked.tool_calls] == [("pay", '{"euro":5}')]
        assert [name for name, _ in here.tools.executed] == ["look"], "what needs no approval is made before"
        assert (await resolve(here, run, asked)).state is RunState.QUEUED
        assert (await here.finished(run)).state is RunState.SUCCEEDED
        assert [name for name, _ in here.tools.executed] == ["look", "pay"]
        assert types(await whole(here, run)) == [
            E.RUN_QUEUED,
            E.MESSAGE_COMPLETED,
            E.RUN_STARTED,
            E.MESSAGE_COMPLETED,
            E.TOOL_CALL_STARTED,
            E.TOOL_CALL_COMPLETED,
            E.MESSAGE_COMPLETED,
            E.APPROVAL_REQUESTED,
            E.APPROVAL_RESOLVED,
            E.RUN_STARTED,
            E.TOOL_CALL_STARTED,
            E.TOOL_CALL_COMPLETED,
            E.MESSAGE_COMPLETED,
            E.MESSAGE_COMPLETED,
            E.RUN_SUCCEEDED,
        ]
        assert (await here.messages(agent.default_conversation_id))[-1] == ("assistant", "That is settled.")


async def test_a_refused_call_is_not_made_and_the_model_is_told_why(
    addresses: Addresses, model: FakeModelServer
) -> None:
    async with replica(addresses, tools=tools()) as here:
        agent, run, asked = await asking(here, model)
        # Whoever refuses need not have looked at the arguments.
        await resolve(here, run, asked, NO, hashed="")
        assert (await here.finished(run)).state is RunState.SUCCEEDED
        assert [name for name, _ in here.tools.executed] == ["look"]
        told = [text for role, text in await here.messages(agent.default_conversation_id) if role == "tool"]
        assert "Too expensive." in told[1]
        begun = [frame for frame in await whole(here, run) if frame.type is E.TOOL_CALL_STARTED]
        assert len(begun) == 1, "a refused call never begins"


async def test_a_decision_holds_for_what_was_asked_and_is_made_once(
    addresses: Addresses, model: FakeModelServer
) -> None:
    async with replica(addresses, tools=tools()) as here:
        _, run, asked = await asking(here, model)
        stranger = replace(here.caller, organization_id=ids.new())
        with pytest.raises(NotFound):
            await resolve(here, run, asked, caller=stranger)
        unknown = event_pb2.ApprovalRequested(approval_id=ids.encode("appr", ids.new()), arguments_hash="x")
        with pytest.raises(NotFound):
            await resolve(here, run, unknown)
        for other in ("", "0" * 64):
            with pytest.raises(FailedPrecondition) as error:
                await resolve(here, run, asked, hashed=other)
            assert error.value.reason == "APPROVAL_ARGUMENTS_DIFFER"
        assert (await waiting(here, run)).approval_id == asked.approval_id
        await resolve(here, run, asked)
        await resolve(here, run, asked)
        with pytest.raises(FailedPrecondition) as error:
            await resolve(here, run, asked, NO)
        assert error.value.reason == "APPROVAL_RESOLVED"
        await here.finished(run)
        await resolve(here, run, asked)
        kinds = types(await whole(here, run))
        assert kinds.count(E.APPROVAL_RESOLVED) == 1


async def test_of_many_who_answer_at_once_one_decides(addresses: Addresses, model: FakeModelServer) -> None:
    """Some approve, some refuse, one cancels, over two replicas: every answer fits the one that is in the log."""
    async with replica(addresses, tools=tools()) as here, replica(addresses, concurrency=0) as there:
        there.caller = here.caller
        for turn in range(6):
            _, run, asked = await asking(here, model)
            assert [name for name, _ in here.tools.executed] == ["look"]
            here.tools.executed.clear()
            answers: list[Awaitable[Run]] = [
                resolve(one, run, asked, decision) for one in (here, there) for decision in (YES, NO, YES, NO)
            ]
            if turn % 2:
                answers.insert(turn, there.core.runs.cancel(here.caller, run.id))
            results = await asyncio.gather(*answers, return_exceptions=True)
            assert all(isinstance(result, (Run, DomainError)) for result in results), results
            await here.finished(run)
            log = await whole(here, run)
            decided = [
                event_pb2.RunEvent.FromString(f.body).approval_resolved for f in log if f.type is E.APPROVAL_RESOLVED
            ]
            assert len(decided) <= 1
            paid = [name for name, _ in here.tools.executed]
            here.tools.executed.clear()
            if turn % 2 == 0:
                assert len(decided) == 1
                assert paid == (["pay"] if decided[0].approved else [])
                assert sum(isinstance(result, Run) for result in results) == 4
            ends = [kind for kind in types(log) if kind.terminal]
            assert len(ends) == 1


async def test_a_waiting_run_is_cancelled_at_once_and_the_next_has_its_turn(
    addresses: Addresses, model: FakeModelServer
) -> None:
    async with replica(addresses, tools=tools()) as here:
        agent, run, asked = await asking(here, model)
        behind = await here.start(agent, "hello")
        assert (await here.core.runs.cancel(here.caller, run.id)).state is RunState.CANCELLED
        assert (await here.finished(behind)).state is RunState.SUCCEEDED
        with pytest.raises(FailedPrecondition) as error:
            await resolve(here, run, asked)
        assert error.value.reason == "RUN_ENDED"
        assert [name for name, _ in here.tools.executed] == ["look"]
        await whole(here, run)


async def test_messages_to_a_waiting_conversation(addresses: Addresses, model: FakeModelServer) -> None:
    async with replica(addresses, tools=tools()) as here:
        agent, run, asked = await asking(here, model)
        queued = await here.start(agent, "and this")
        with pytest.raises(FailedPrecondition) as error:
            await here.start(agent, "me too", BusyPolicy.REFUSE)
        assert error.value.reason == "CONVERSATION_BUSY"
        await resolve(here, run, asked)
        assert (await here.finished(queued)).state is RunState.SUCCEEDED
        log = await whole(here, run)
        ended = next(f.seq for f in log if f.type is E.RUN_SUCCEEDED and f.run_id == run.id)
        began = next(f.seq for f in log if f.type is E.RUN_STARTED and f.run_id == queued.id)
        assert ended < began, "it does not jump the queue"


async def test_an_interruption_cancels_what_waits(addresses: Addresses, model: FakeModelServer) -> None:
    async with replica(addresses, tools=tools()) as here:
        agent, run, _ = await asking(here, model)
        now = await here.start(agent, "never mind", BusyPolicy.INTERRUPT)
        assert (await here.core.runs.get(here.caller, run.id)).state is RunState.CANCELLED
        assert (await here.finished(now)).state is RunState.SUCCEEDED


async def test_a_deleted_conversation_takes_its_question_along(addresses: Addresses, model: FakeModelServer) -> None:
    async with replica(addresses, tools=tools()) as here:
        agent, run, asked = await asking(here, model)
        await here.core.agents.delete(here.caller, agent.id)
        with pytest.raises(NotFound):
            await resolve(here, run, asked)
        assert await here.core.runs.open_total(here.caller) == 0


class Counting(PostgresRunLog):
    """Counts who asks for work."""

    def __init__(self, pool: LogPool, claims: list[UUID]) -> None:
        super().__init__(pool)
        self._claims = claims

    async def claim(self, dispatch: Dispatch, ask: TurnAsk) -> Turn | None:
        self._claims.append(dispatch.conversation_id)
        return await super().claim(dispatch, ask)


def counting(claims: list[UUID]) -> Callable[[Outside, LogPool], Outside]:
    return lambda outside, pool: replace(outside, log=Counting(pool, claims))


async def test_nobody_asks_again_and_again_while_a_run_waits(addresses: Addresses, model: FakeModelServer) -> None:
    claims: list[UUID] = []
    async with replica(addresses, tools=tools(), plant=counting(claims)) as here:
        agent, run, asked = await asking(here, model)
        behind = await here.start(agent, "hello")

        async def forgotten() -> bool:
            return await row(here, agent.default_conversation_id) == (True, None, True)

        await until(forgotten, timeout_s=30)
        assert len(here.memory.indexed) >= 3, "what was said before it waits is in recall memory"
        before = len(claims)
        assert before <= 5
        # Longer than a sweep, a lease and a put-off together.
        await asyncio.sleep(9)
        assert len(claims) == before
        assert await row(here, agent.default_conversation_id) == (True, None, True)
        began = asyncio.get_running_loop().time()
        await resolve(here, run, asked)
        assert (await here.finished(run)).state is RunState.SUCCEEDED
        assert (await here.finished(behind)).state is RunState.SUCCEEDED
        assert asyncio.get_running_loop().time() - began < 5, "no lease had to expire"


async def test_an_answer_that_crosses_a_look_is_not_put_off(addresses: Addresses, model: FakeModelServer) -> None:
    """DEFER and RESOLVE at the same time, many times: whoever comes last, the run goes on."""
    async with replica(addresses, tools=tools()) as here:
        for _ in range(10):
            agent, run, asked = await asking(here, model)
            dispatch = Dispatch(here.caller.organization_id, agent.default_conversation_id)
            looks = [here.outside.log.defer(dispatch) for _ in range(5)]
            await asyncio.gather(
                *looks, resolve(here, run, asked), *[here.outside.log.defer(dispatch) for _ in range(5)]
            )
            assert (await row(here, agent.default_conversation_id))[2] is not True
            await here.finished(run)


async def test_waiting_does_not_use_up_the_claims_of_a_run(addresses: Addresses, model: FakeModelServer) -> None:
    steps = [Step(tool_calls=[ScriptedCall("pay", {"number": number}, id=f"c{number}")]) for number in range(12)]
    model.script("pay", *steps, Step(text="All paid."))
    async with replica(addresses, tools=tools()) as here:
        agent = await here.agent(tools=("pay",))
        run = await here.start(agent, "pay them all")
        last = ""
        for _ in steps:
            asked = await waiting(here, run)
            assert asked.approval_id != last
            last = asked.approval_id
            await resolve(here, run, asked)

            async def goes_on(last: str = last) -> bool:
                now = await here.core.runs.get(here.caller, run.id)
                if now.state.ended:
                    return True
                return now.state is RunState.WAITING and (await waiting(here, run)).approval_id != last

            await until(goes_on)
        assert (await here.finished(run)).state is RunState.SUCCEEDED
        assert len(here.tools.executed) == 12
        assert E.STEP_RESTARTED not in types(await whole(here, run))


async def test_a_tool_that_changed_meanwhile_is_asked_about_again(addresses: Addresses, model: FakeModelServer) -> None:
    async with replica(addresses, tools=tools()) as here:
        _, run, asked = await asking(here, model)
        (pay,) = [tool for tool in here.tools.tools.values() if tool.name == "pay"]
        assert pay.id is not None
        here.tools.tools[pay.id] = replace(pay, version=2)
        # Longer than schemas are kept.
        await asyncio.sleep(5.2)
        await resolve(here, run, asked)

        async def asks_again() -> bool:
            now = await here.core.runs.get(here.caller, run.id)
            return now.state is RunState.WAITING and (await waiting(here, run)).approval_id != asked.approval_id

        await until(asks_again)
        assert [name for name, _ in here.tools.executed] == ["look"]
        await resolve(here, run, await waiting(here, run))
        assert (await here.finished(run)).state is RunState.SUCCEEDED
        assert [name for name, _ in here.tools.executed] == ["look", "pay"]


async def test_an_agent_may_ask_about_every_call(addresses: Addresses, model: FakeModelServer) -> None:
    async with replica(addresses, tools=tools()) as here:
        agent = await here.agent(tools=("pay", "look"), settings=AgentSettings(approvals=ApprovalPolicy.ALWAYS))
        run = await here.start(agent, script(model))
        asked = await waiting(here, run)
        assert [call.name for call in asked.tool_calls] == ["pay", "look"]
        assert here.tools.executed == []
        await here.core.runs.cancel(here.caller, run.id)


async def test_where_an_order_holds_a_call_waits_for_the_approval_before_it(
    addresses: Addresses, model: FakeModelServer
) -> None:
    """And what a rule refuses is not asked about."""
    here_tools = tools()
    async with replica(addresses, tools=here_tools) as here:
        rules = (RunFirst(("pay",)), AllowedAfter("pay", ("look",)), MaxPerRun("pay", 1))
        agent = await here.agent(tools=("pay", "look"), tool_rules=rules)
        run = await here.start(agent, script(model, again=True))
        asked = await waiting(here, run)
        assert [call.name for call in asked.tool_calls] == ["pay"]
        assert [name for name, _ in here_tools.executed] == []
        await resolve(here, run, asked)
        assert (await here.finished(run)).state is RunState.SUCCEEDED
        assert [name for name, _ in here_tools.executed] == ["pay", "look"]
        assert [frame.type for frame in await whole(here, run)].count(E.APPROVAL_REQUESTED) == 1


async def test_everything_is_restarted_while_a_run_waits(addresses: Addresses, model: FakeModelServer) -> None:
    known = tools()
    async with replica(addresses, tools=known) as first:
        _, run, asked = await asking(first, model)
    async with replica(addresses, tools=known) as second:
        second.caller = first.caller
        assert (await second.core.runs.get(second.caller, run.id)).state is RunState.WAITING
        await resolve(second, run, asked)
        assert (await second.finished(run)).state is RunState.SUCCEEDED
        assert [name for name, _ in known.executed] == ["look", "pay"]


async def test_what_is_said_meanwhile_does_not_hide_what_the_run_did(
    addresses: Addresses, model: FakeModelServer
) -> None:
    """More is queued behind it than a turn reads of the newest messages."""
    known = tools()
    async with replica(addresses, tools=known) as first:
        agent, run, asked = await asking(first, model)
        behind = [await first.start(agent, f"{number} " + "lorem ipsum " * 10_000) for number in range(4)]
    async with replica(addresses, tools=known) as second:
        second.caller = first.caller
        await resolve(second, run, asked)
        for one in (run, *behind):
            assert (await second.finished(one)).state is RunState.SUCCEEDED
        assert [name for name, _ in known.executed] == ["look", "pay"]
        assert types(await whole(second, run)).count(E.APPROVAL_REQUESTED) == 1


@pytest.mark.parametrize("point", ["approval.requesting", "approval.requested", "tool.begun"])
async def test_kill_9_of_the_worker_around_the_question(
    addresses: Addresses, model: FakeModelServer, tmp_path: Path, point: str
) -> None:
    model.script("pay", Step(tool_calls=[ScriptedCall("pay", {"euro": 5}, id="c1")]), Step(text="Settled."))
    faults, paid, tool_id = tmp_path / "faults", tmp_path / "paid", ids.new()
    faults.mkdir()
    async with replica(addresses, concurrency=0) as api:
        pay_with(api.tools, paid, tool_id)
        agent = await api.agent(tools=("pay",))
        async with paying_worker(addresses, tool_id, paid, faults) as doomed:
            failpoints.plant(faults, point, "kill")
            run = await api.start(agent, "pay it")
            if point == "tool.begun":
                await resolve(api, run, await waiting(api, run))
            await asyncio.wait_for(asyncio.to_thread(doomed.wait), 30)
        async with paying_worker(addresses, tool_id, paid, faults):
            if point != "tool.begun":
                asked = await waiting(api, run)
                assert not paid.exists()
                await resolve(api, run, asked)
            assert (await api.finished(run, timeout_s=40)).state is RunState.SUCCEEDED
        kinds = types(await whole(api, run))
        assert (kinds.count(E.APPROVAL_REQUESTED), kinds.count(E.APPROVAL_RESOLVED)) == (1, 1)
        if point == "tool.begun":
            told = dict(await api.messages(agent.default_conversation_id))["tool"]
            assert not paid.exists()
            assert "not known" in told, "it had begun: the ledger's rule"
        else:
            assert paid.read_text() == "{'euro': 5}\n"


async def test_kill_9_between_the_decision_and_its_dispatch(
    addresses: Addresses, model: FakeModelServer, tmp_path: Path
) -> None:
    """The process that took the answer dies before it tells anybody: here, it never does."""
    model.script("pay", Step(tool_calls=[ScriptedCall("pay", {"euro": 5}, id="c1")]), Step(text="Settled."))
    faults, paid, tool_id = tmp_path / "faults", tmp_path / "paid", ids.new()
    faults.mkdir()
    async with replica(addresses, concurrency=0) as api:
        pay_with(api.tools, paid, tool_id)
        agent = await api.agent(tools=("pay",))
        async with paying_worker(addresses, tool_id, paid, faults):
            run = await api.start(agent, "pay it")
            asked = await waiting(api, run)
            failpoints.arm(str(faults))
            failpoints.plant(faults, "approval.resolved", "sleep 3600")
            try:
                answering = asyncio.create_task(resolve(api, run, asked))
                await until(lambda: bool(failpoints.taken(faults, "approval.resolved")))
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
            finally:
                failpoints.arm("")
            # The caller heard nothing and asks again.
            await resolve(api, run, asked)
            assert (await api.finished(run, timeout_s=40)).state is RunState.SUCCEEDED
        assert paid.read_text() == "{'euro': 5}\n"
        assert types(await whole(api, run)).count(E.APPROVAL_RESOLVED) == 1


async def test_over_grpc(
    here: Replica, model: FakeModelServer, channel: grpc.aio.Channel, issuer: Issuer, foreigner: Client
) -> None:
    """Members decide, viewers do not, another organization does not even see it."""
    here.tools = cast("ToolsInProcess", here.outside.tool_executor)
    here.tools.add("pay", _done, asks=True)
    here.tools.add("look", _done)
    _, run, asked = await asking(here, model)
    organization = here.caller.organization_id
    member = Client(issuer.identity(organization).token, channel)
    viewer = Client(issuer.identity(organization, Role.VIEWER).token, channel)
    stub = RunServiceStub(channel)
    request = run_service_pb2.ResolveApprovalRequest(
        run_id=ids.encode("run", run.id),
        approval_id=asked.approval_id,
        arguments_hash=asked.arguments_hash,
        approved=True,
    )
    assert (await refused(stub.ResolveApproval(request, metadata=foreigner.md))).code == "NOT_FOUND"
    assert (await refused(stub.ResolveApproval(request, metadata=viewer.md))).code == "PERMISSION_DENIED"
    for _ in range(2):
        answered = (await stub.ResolveApproval(request, metadata=member.md)).run
        assert (answered.id, answered.state != run_pb2.RUN_STATE_WAITING) == (request.run_id, True)
    request.approved = False
    assert (await refused(stub.ResolveApproval(request, metadata=member.md))).reason == "APPROVAL_RESOLVED"
    assert (await here.finished(run)).state is RunState.SUCCEEDED


async def _done(arguments: dict[str, object]) -> str:
    return "done"
