"""The life of runs in the database against a model: any order of starts, claims, commits, crashes, zombies, renewals and cancels.

The model is what must be true, in plain Python: a list of runs, one lease, one log. After each step the rows must
be the model's. HEARTH_LIFECYCLE_EXAMPLES runs more than the default.
"""

import os
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from agent_svc.domain.approval import ApprovalRequest, Decision
from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.event import (
    ApprovalRequested,
    ApprovalResolved,
    EncodedEvent,
    EventPayload,
    EventType,
    MessageCompleted,
    RunCancelled,
    RunQueued,
    RunStarted,
    RunSucceeded,
    ToolCallCompleted,
    ToolCallStarted,
)
from agent_svc.domain.log import (
    Commit,
    Dispatch,
    Ending,
    Entry,
    Fenced,
    Lease,
    LedgerEnd,
    LedgerStart,
    NewRun,
    RequestIdTaken,
    TurnAsk,
)
from agent_svc.domain.model import ToolCall
from agent_svc.domain.run import RunState, RunStep, RunStopReason, TokenCount
from agent_svc.interfaces.approvals import Resolution
from agent_svc.repositories.prepared import Prepared
from chassis import ids
from chassis.errors import FailedPrecondition
from tests.integration.agent_svc.conftest import MIGRATIONS
from tests.integration.agent_svc.lifecycle_model import (
    CONVERSATION,
    DUE,
    EXPIRE,
    ROW,
    Database,
    Hold,
    RunModel,
    call_of_row,
)
from tests.support.databases import Databases

T = TypeVar("T")
E = EventType
EXAMPLES = int(os.environ.get("HEARTH_LIFECYCLE_EXAMPLES", "500"))
STEPS = 25


class Lifecycle(RuleBasedStateMachine):
    """Steps are chosen among everything that clients, workers and time can do to one conversation."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        self.organization, self.conversation = ids.new(), ids.new()
        self.runs: list[RunModel] = []
        self.log: list[tuple[int, UUID, int, int]] = []
        self.messages: list[int] = []
        self.requests: dict[UUID, RunModel] = {}
        self.holds: list[Hold] = []
        self.epoch = 0
        self.held = False
        self.expired = False
        # The run that was taken last: cancelling it fences whoever has it.
        self.active: RunModel | None = None
        # What the conversation waits for.
        self.asked: ApprovalRequest | None = None
        self._tenant(CONVERSATION, run=ids.new())

    # Clients

    @rule(refuse=st.booleans(), again=st.booleans())
    def start(self, refuse: bool, again: bool) -> None:
        known = sorted(self.requests)
        request = known[len(self.log) % len(known)] if again and known else ids.new()
        new = self._new(request, refuse)
        if request in self.requests:
            with pytest.raises(RequestIdTaken) as taken:
                self._do(self.database.log.start(new))
            assert taken.value.run.id == self.requests[request].id
        elif refuse and self._open():
            with pytest.raises(FailedPrecondition):
                self._do(self.database.log.start(new))
        else:
            assert self._do(self.database.log.start(new)).first_seq == len(self.log) + 1
            run = RunModel(new.run_id)
            self.runs.append(run)
            self.requests[request] = run
            self._happened(run, 0, E.RUN_QUEUED)
            self._happened(run, 0, E.MESSAGE_COMPLETED)

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 7))
    def cancel(self, which: int) -> None:
        run = self.runs[-1 - which % len(self.runs)]
        now = datetime.now(UTC)
        cancelled = self._do(self.database.log.cancel(self.organization, run.id, now, self._cancel_event))
        assert (cancelled.event is None) == (not run.open)
        if not run.open:
            return
        run.state = RunState.CANCELLED
        run.calls = {call: outcome or 3 for call, outcome in run.calls.items()}
        if run is self.active:
            self.epoch += 1
            self.held = self.expired = False
        if run.asked == self.asked:
            self.asked = None
        self._happened(run, self.epoch, E.RUN_CANCELLED)
        assert cancelled.more == bool(self._open())

    @precondition(lambda self: any(run.asked for run in self.runs))
    @rule(which=st.integers(0, 3), approved=st.booleans(), fits=st.booleans())
    def resolve(self, which: int, approved: bool, fits: bool) -> None:
        """Of a run that waits, has been answered, or has ended meanwhile; perhaps with the hash of something else."""
        asked = [run for run in self.runs if run.asked]
        run = asked[-1 - which % len(asked)]
        assert run.asked is not None
        resolution = self._resolution(run, run.asked, approved, fits)
        if fits and run.answer is None and run.state is RunState.WAITING:
            stored, event = self._do(self.database.approvals.resolve(resolution))
            assert event is not None
            assert event.seq == len(self.log) + 1
            assert stored.state is RunState.QUEUED
            run.state, run.answer, self.asked = RunState.QUEUED, approved, None
            self._happened(run, 0, E.APPROVAL_RESOLVED)
        elif fits and run.answer is approved:
            assert self._do(self.database.approvals.resolve(resolution))[1] is None
        else:
            with pytest.raises(FailedPrecondition):
                self._do(self.database.approvals.resolve(resolution))

    # Workers

    @rule()
    def look(self) -> None:
        """Somebody could not take it: it is put off, but never for ever unless it waits for somebody outside."""
        dispatch = Dispatch(self.organization, self.conversation)
        self._do(self.database.log.defer(dispatch))
        rows = self._tenant(DUE)[0]
        assert self.asked is not None or not rows or not rows[0][0], "nobody will look again"

    @rule()
    def claim(self) -> None:
        turn = self._do(self.database.log.claim(Dispatch(self.organization, self.conversation), self._ask()))
        if not self._open() or (self.held and not self.expired) or self.asked is not None:
            assert turn is None
            return
        assert turn is not None
        self.epoch += 1
        self.held, self.expired = True, False
        assert turn.lease.epoch == self.epoch
        self._taken(turn.run.id, turn.lease)

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 3))
    def next_turn(self, which: int) -> None:
        hold = self._hold(which)
        if self._valid(hold) and hold.run is not None:
            return
        if not self._valid(hold):
            with pytest.raises(Fenced):
                self._do(self.database.log.next_turn(hold.lease, self._ask()))
            return
        turn = self._do(self.database.log.next_turn(hold.lease, self._ask()))
        if not self._open():
            assert turn is None
            self.epoch += 1
            self.held = self.expired = False
            return
        assert turn is not None
        self.held, self.expired = True, False
        self.holds.remove(hold)
        self._taken(turn.run.id, hold.lease)

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 3), calls=st.integers(1, 2))
    def call_tools(self, which: int, calls: int) -> None:
        """A model's answer that asks for tools."""
        hold = self._hold(which)
        run = hold.run or self.runs[0]
        names = [f"call{run.steps}_{number}" for number in range(calls)]
        message = self._message(run, MessageRole.ASSISTANT, tuple(ToolCall(name, "tool", "{}") for name in names))
        events: list[EventPayload] = [MessageCompleted(message)]
        events += [ToolCallStarted(message.id, call, 1) for call in message.tool_calls]
        starts = tuple(LedgerStart(name, message.id, "tool", "{}", repeatable=False) for name in names)
        if self._commit(hold, run, events, step=self._step(run, message), ledger_starts=starts):
            run.steps += 1
            run.calls.update(dict.fromkeys(names, 0))

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 3), outcome=st.sampled_from([1, 2, 3]))
    def end_tool(self, which: int, outcome: int) -> None:
        hold = self._hold(which)
        run = hold.run or self.runs[0]
        name = next((call for call, ended in run.calls.items() if not ended), "")
        if not name:
            return
        end = LedgerEnd(name, ToolCallOutcome(outcome), 5)
        events: list[EventPayload] = [
            ToolCallCompleted(name, "tool", ToolCallOutcome(outcome), 5),
            MessageCompleted(self._message(run, MessageRole.TOOL)),
        ]
        if self._commit(hold, run, events, ledger_ends=(end,)):
            run.calls[name] = outcome

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 3))
    def wait(self, which: int) -> None:
        """A call needs an approval: the lease is given back, and nobody takes the conversation."""
        hold = self._hold(which)
        run = hold.run or self.runs[0]
        request = ApprovalRequest(ids.new(), ids.new(), (ToolCall("c", "pay", "{}"),), (1,))
        if self._commit(hold, run, [ApprovalRequested(request)], waits=True, approval=request):
            run.state, run.asked, run.answer = RunState.WAITING, request, None
            self.asked = request
            hold.run = None
            self.epoch += 1
            self.held = self.expired = False

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 3), failed=st.booleans())
    def end_run(self, which: int, failed: bool) -> None:
        hold = self._hold(which)
        run = hold.run or self.runs[0]
        message = self._message(run, MessageRole.ASSISTANT)
        events: list[EventPayload] = [
            MessageCompleted(message),
            RunSucceeded(RunStopReason.FINAL_ANSWER, TokenCount()),
        ]
        # A run with calls that nobody answered cannot succeed.
        failed = failed or 0 in run.calls.values()
        state = RunState.FAILED if failed else RunState.SUCCEEDED
        ending = Ending(state, RunStopReason.ERROR if failed else RunStopReason.FINAL_ANSWER)
        if self._commit(hold, run, events, step=self._step(run, message), ending=ending):
            run.steps += 1
            run.state = state
            run.calls = {call: outcome or 3 for call, outcome in run.calls.items()}
            hold.run = None
            if not self._open():
                self.epoch += 1
                self.held = self.expired = False

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 3))
    def renew(self, which: int) -> None:
        hold = self._hold(which)
        renewed = self._do(self.database.log.renew([hold.lease]))
        assert renewed == ({self.conversation} if self._valid(hold) else set())
        if self._valid(hold):
            self.expired = False

    @precondition(lambda self: self.holds)
    @rule(which=st.integers(0, 3))
    def release(self, which: int) -> None:
        hold = self._hold(which)
        self._do(self.database.log.release(hold.lease))
        if self._valid(hold):
            self.epoch += 1
            self.held = self.expired = False

    @rule()
    def die(self) -> None:
        """Whoever has the lease is silent for longer than it lasts; it may come back."""
        self._tenant(EXPIRE)
        self.expired = self.held

    # What must hold after every step

    @invariant()
    def the_rows_are_the_model_s(self) -> None:
        ((row,),) = self._tenant(ROW)
        head, epoch, held, open_runs, waiting, events, runs, calls, messages = row
        assert (head, epoch, held, open_runs) == (len(self.log), self.epoch, self.held, len(self._open()))
        assert waiting == (self.asked is not None)
        assert (events or []) == [f"({seq},{run},{under},{kind})" for seq, run, under, kind in self.log]
        assert (runs or []) == [f"({run.id},{int(run.state)},{run.steps})" for run in self.runs]
        expected = {(str(run.id), call, outcome) for run in self.runs for call, outcome in run.calls.items()}
        assert {call_of_row(text) for text in calls or []} == expected
        assert (messages or []) == self.messages

    # How the model moves

    def _taken(self, run_id: UUID, lease: Lease) -> None:
        run = self._open()[0]
        assert run.id == run_id, "the oldest unfinished run is next"
        run.state = RunState.RUNNING
        self.active = run
        self.holds.append(Hold(lease, run))
        self._happened(run, lease.epoch, E.RUN_STARTED)

    def _commit(self, hold: Hold, run: RunModel, events: list[EventPayload], **changes: Any) -> bool:
        """Whether it was written, as it must be exactly under the newest epoch. A worker never writes between two runs."""
        if self._valid(hold) and hold.run is None:
            return False
        now = datetime.now(UTC)
        entries = tuple(
            Entry(
                self.database.codec.encode(event, now), event.message if isinstance(event, MessageCompleted) else None
            )
            for event in events
        )
        commit = Commit(hold.lease, run.id, entries, now, **changes)
        if not self._valid(hold):
            with pytest.raises(Fenced):
                self._do(self.database.log.commit(commit))
            return False
        committed = self._do(self.database.log.commit(commit))
        for event in events:
            self._happened(run, hold.lease.epoch, event.type)
        assert committed.head_seq == len(self.log)
        return True

    def _happened(self, run: RunModel, epoch: int, kind: EventType) -> None:
        self.log.append((len(self.log) + 1, run.id, epoch, int(kind)))
        if kind is E.MESSAGE_COMPLETED:
            self.messages.append(len(self.log))

    def _valid(self, hold: Hold) -> bool:
        return hold.lease.epoch == self.epoch

    def _hold(self, which: int) -> Hold:
        return self.holds[-1 - which % len(self.holds)]

    def _open(self) -> list[RunModel]:
        return [run for run in self.runs if run.open]

    # Values

    def _new(self, request: UUID, refuse: bool) -> NewRun:
        now = datetime.now(UTC)
        run_id = ids.new()
        message = Message(ids.new(), run_id, 0, MessageRole.USER, "hello", now)
        codec = self.database.codec
        return NewRun(
            run_id=run_id,
            organization_id=self.organization,
            conversation_id=self.conversation,
            user="",
            message=message,
            queued=codec.encode(RunQueued(), now),
            completed=codec.encode(MessageCompleted(message), now),
            preview="hello",
            create_time=now,
            request_id=request,
            body_hash=b"",
            max_open=1 if refuse else 100,
            due_in_s=5,
        )

    def _message(self, run: RunModel, role: MessageRole, calls: tuple[ToolCall, ...] = ()) -> Message:
        return Message(ids.new(), run.id, 1, role, "text", datetime.now(UTC), tool_calls=calls)

    def _step(self, run: RunModel, message: Message) -> RunStep:
        return RunStep(run.steps + 1, message.id, "model", "", "", 0, 0, 0, 0, (), 1, TokenCount(1, 1, 0))

    def _resolution(self, run: RunModel, asked: ApprovalRequest, approved: bool, fits: bool) -> Resolution:
        now, decision = datetime.now(UTC), Decision(approved, "")
        return Resolution(
            organization_id=self.organization,
            run_id=run.id,
            approval_id=asked.id,
            arguments_hash=asked.arguments_hash if fits else "0",
            decision=decision,
            user="user_x",
            now=now,
            event=self.database.codec.encode(ApprovalResolved(asked.id, decision), now),
            due_in_s=5,
        )

    def _ask(self) -> TurnAsk:
        now = datetime.now(UTC)
        return TurnAsk(ids.new().hex, now, self.database.codec.encode(RunStarted(), now), 1000)

    def _cancel_event(self, usage: TokenCount) -> EncodedEvent:
        return self.database.codec.encode(RunCancelled(usage), datetime.now(UTC))

    def _tenant(self, statement: Prepared, **values: Any) -> Any:
        values["conversation"] = self.conversation
        return self._do(self.database.pool.tenant(self.organization, [statement], values))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.database.do(work)


@pytest.fixture
def lifecycle(databases: Databases) -> Iterator[type[Lifecycle]]:
    database = Database(databases.fresh(MIGRATIONS).url)
    Lifecycle.database = database
    yield Lifecycle
    database.close()


def test_the_life_of_runs(lifecycle: type[Lifecycle]) -> None:
    run_state_machine_as_test(
        lifecycle,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )
