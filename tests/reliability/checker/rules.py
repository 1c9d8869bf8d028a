"""Compares what clients saw with what the database holds, and both with what Hearth promises about runs and streams.

`check` returns every breach it finds, each with the name of the promise; an empty list is the proof.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from chassis import ids
from hearth.agent.v1 import event_pb2
from tests.reliability.checker.compaction import compactions
from tests.reliability.checker.history import History
from tests.reliability.checker.promises import deltas, streams
from tests.reliability.checker.stored import StoredConversation, StoredEvent

TERMINAL = {"run_succeeded": 4, "run_failed": 5, "run_cancelled": 6}
_STARTED = {"run_started", "run_cancelled"}
_QUEUED = ("run_queued", "message_completed")
_NO_OUTCOME = 0


@dataclass(frozen=True)
class Breach:
    """A promise that was not kept."""

    promise: str
    detail: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.detail}"


def check(history: History, stored: Iterable[StoredConversation]) -> list[Breach]:
    """All breaches. `stored` is every conversation that the history speaks of."""
    conversations = {conversation.id: conversation for conversation in stored}
    found: list[Breach] = []

    def note(promise: str, details: Iterable[str]) -> None:
        found.extend(Breach(promise, detail) for detail in details)

    for conversation in conversations.values():
        for promise, rule in _OF_CONVERSATION.items():
            note(promise, (f"{conversation.id}: {detail}" for detail in rule(conversation)))
    note("accepted", _accepted(history, conversations))
    note("cancelled", _cancelled(history, conversations))
    note("executed", _executed(history, conversations))
    for seen in history.seen:
        note("stream", streams(seen, conversations[seen.conversation_id]))
        note("deltas", deltas(seen))
    return found


def _accepted(history: History, conversations: dict[str, StoredConversation]) -> Iterator[str]:
    """An accepted message is there, once, and its run has ended."""
    for one in history.accepted:
        conversation = conversations[one.conversation_id]
        run_id = ids.decode("run", one.run_id)
        run = next((run for run in conversation.runs if run["id"] == run_id), None)
        if run is None:
            yield f"{one.run_id} was accepted and is not stored"
            continue
        if run["state"] < 4:
            yield f"{one.run_id} has not ended: state {run['state']}"
        texts = [
            message["content"].get("text", "")
            for message in conversation.messages
            if message["run_id"] == run_id and message["role"] == 1
        ]
        if texts != [one.text]:
            yield f"{one.run_id} holds the messages {texts!r} instead of {one.text!r}"


def _cancelled(history: History, conversations: dict[str, StoredConversation]) -> Iterator[str]:
    """After CancelRun's OK the run is cancelled; that nothing follows is the rule of runs."""
    states = {
        ids.encode("run", run["id"]): run["state"]
        for conversation in conversations.values()
        for run in conversation.runs
    }
    for run_id in history.cancelled:
        if states.get(run_id) != TERMINAL["run_cancelled"]:
            yield f"{run_id} was cancelled and is in state {states.get(run_id)}"


def _executed(history: History, conversations: dict[str, StoredConversation]) -> Iterator[str]:
    """A tool that may not be repeated did nothing twice, and nothing that the ledger does not know."""
    ledger: dict[str, Any] = {
        f"{ids.encode('run', call['run_id'])}/{call['tool_call_id']}": call
        for conversation in conversations.values()
        for call in conversation.tool_calls
    }
    for (tool, request), times in Counter(history.executed).items():
        call = ledger.get(request)
        if call is None:
            yield f"{tool} {request} was executed and is not in the ledger"
        elif times > 1 and not call["repeatable"]:
            yield f"{tool} {request} was executed {times} times"


def _log(conversation: StoredConversation) -> Iterator[str]:
    """Seqs are 1, 2, 3 … up to the head; messages are those that events report."""
    seqs = [one.event.seq for one in conversation.events]
    if seqs != list(range(1, conversation.row["head_seq"] + 1)):
        yield f"the log's seqs are {seqs}, its head is {conversation.row['head_seq']}"
    reported = [
        (one.event.seq, one.event.message_completed.message.id)
        for one in conversation.events
        if one.kind == "message_completed"
    ]
    kept = [(message["seq"], ids.encode("msg", message["id"])) for message in conversation.messages]
    if reported != kept:
        yield f"events report the messages {reported}, stored are {kept}"
    if len({identifier for _, identifier in kept}) != len(kept):
        yield "a message is there twice"


def _writers(conversation: StoredConversation) -> Iterator[str]:
    """Epochs only grow, and each begins with the event that says so."""
    newest = 0
    for one in conversation.events:
        if one.epoch == 0:
            continue
        if one.epoch < newest:
            yield f"seq {one.event.seq} was written under epoch {one.epoch}, after epoch {newest} had begun"
        if one.epoch > newest and one.kind not in _STARTED:
            yield f"seq {one.event.seq} ({one.kind}) is the first of epoch {one.epoch}"
        if one.kind == "run_started" and one.event.run_started.epoch != one.epoch:
            yield f"seq {one.event.seq} says epoch {one.event.run_started.epoch} and was written under {one.epoch}"
        newest = max(newest, one.epoch)


def _rest(conversation: StoredConversation) -> Iterator[str]:
    """At rest nobody holds the conversation, and no run is counted as open."""
    row = conversation.row
    if row["open_runs"] or row["lease_owner"] is not None:
        yield f"it has {row['open_runs']} open runs and is held by {row['lease_owner']}"


def _order(conversation: StoredConversation) -> Iterator[str]:
    """One run at a time, in the order of their first events."""
    active: str = ""
    ended: set[str] = set()
    expected = [ids.encode("run", run["id"]) for run in conversation.runs]
    for one in conversation.events:
        run_id = one.event.run_id
        if one.kind == "run_started":
            waiting = [known for known in expected if known not in ended]
            if active not in ("", run_id):
                yield f"{run_id} started (seq {one.event.seq}) before {active} had ended"
            elif waiting and waiting[0] != run_id:
                yield f"{run_id} started (seq {one.event.seq}) before its turn: {waiting[0]} is older"
            active = run_id
        elif one.kind in TERMINAL:
            ended.add(run_id)
            active = "" if active == run_id else active


def _runs(conversation: StoredConversation) -> Iterator[str]:
    """Each run: queued with its message, one end and nothing after it, one reply, as many steps as replies of the model."""
    for run in conversation.runs:
        run_id = ids.encode("run", run["id"])
        events = [one for one in conversation.events if one.event.run_id == run_id]
        kinds = [one.kind for one in events]
        if tuple(kinds[:2]) != _QUEUED or events[0].event.seq != run["run_seq"]:
            yield f"{run_id} begins with {kinds[:2]}"
        ends = [kind for kind in kinds if kind in TERMINAL]
        if run["state"] >= 4 and (len(ends) != 1 or kinds[-1] != ends[0] or TERMINAL[ends[0]] != run["state"]):
            yield f"{run_id} is in state {run['state']} and its events are {kinds}"
        replies = _replies(events)
        final = [one for one in replies if not one.event.message_completed.message.tool_calls]
        if len(final) > 1 or (run["state"] == 4 and run["stop_reason"] == 1 and len(final) != 1):
            yield f"{run_id} has {len(final)} final replies"
        steps = sum(step["run_id"] == run["id"] for step in conversation.steps)
        if not steps == run["steps"] == len(replies):
            yield f"{run_id} counts {run['steps']} steps, {steps} are recorded, {len(replies)} are in the log"


def _replies(events: list[StoredEvent]) -> list[StoredEvent]:
    return [one for one in events if one.kind == "message_completed" and one.event.message_completed.message.role == 2]


def _ledger(conversation: StoredConversation) -> Iterator[str]:
    """Every call has an outcome once its run has ended, the same everywhere; begun twice only if it may be repeated."""
    ended = {run["id"] for run in conversation.runs if run["state"] >= 4}
    calls = {(ids.encode("run", call["run_id"]), call["tool_call_id"]): call for call in conversation.tool_calls}
    begun: Counter[tuple[str, str]] = Counter()
    done: dict[tuple[str, str], list[int]] = {}
    for one in conversation.events:
        if one.kind == "tool_call_started":
            begun[one.event.run_id, one.event.tool_call_started.tool_call.id] += 1
        elif one.kind == "tool_call_completed":
            completed = one.event.tool_call_completed
            done.setdefault((one.event.run_id, completed.tool_call_id), []).append(int(completed.outcome))
    if set(begun) != set(calls) or not set(done) <= set(calls):
        yield f"the log knows the calls {sorted(begun)}, the ledger {sorted(calls)}"
    for key, call in calls.items():
        if begun[key] > 1 and not call["repeatable"]:
            yield f"{key} was begun {begun[key]} times"
        if call["run_id"] in ended and call["outcome"] == _NO_OUTCOME:
            yield f"{key} has no outcome"
        if key in done and done[key] != [call["outcome"]]:
            yield f"{key} ended as {done[key]} in the log and as {call['outcome']} in the ledger"


def _approvals(conversation: StoredConversation) -> Iterator[str]:
    """While a run waits nothing happens but its answer, its end, and new messages; what was refused never begins."""
    asked: event_pb2.ApprovalRequested | None = None
    waiting = ""
    open_calls: dict[str, set[str]] = {}
    for one in conversation.events:
        event, run_id = one.event, one.event.run_id
        if one.kind == "approval_requested":
            asked, waiting = event.approval_requested, run_id
            open_calls.setdefault(run_id, set()).update(call.id for call in asked.tool_calls)
        elif one.kind == "approval_resolved":
            if asked is None or (run_id, event.approval_resolved.approval_id) != (waiting, asked.approval_id):
                yield f"seq {event.seq} resolves {event.approval_resolved.approval_id}, which is not waited for"
            elif event.approval_resolved.approved:
                open_calls[run_id] -= {call.id for call in asked.tool_calls}
            waiting = ""
        elif waiting == run_id and one.kind not in TERMINAL:
            yield f"seq {event.seq} ({one.kind}) happened while {run_id} waited"
        elif waiting and one.kind == "run_started":
            yield f"{run_id} started (seq {event.seq}) while {waiting} waited"
        elif one.kind == "tool_call_started" and event.tool_call_started.tool_call.id in open_calls.get(run_id, ()):
            yield f"seq {event.seq} begins a call of {run_id} that was not approved"
        if waiting == run_id and one.kind in TERMINAL:
            waiting = ""
    if (waiting != "") != bool(conversation.row["waiting"]):
        yield f"the log waits for {waiting or 'nothing'}, the conversation's row says {conversation.row['waiting']}"


_OF_CONVERSATION: dict[str, Callable[[StoredConversation], Iterator[str]]] = {
    "log": _log,
    "one writer": _writers,
    "rest": _rest,
    "order": _order,
    "runs": _runs,
    "ledger": _ledger,
    "compaction": compactions,
    "approvals": _approvals,
}
