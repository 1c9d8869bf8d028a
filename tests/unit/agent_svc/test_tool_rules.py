"""Tool rules: against an independent statement of them over every small combination, and named cases."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from uuid import UUID

import pytest

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.model import ToolCall
from agent_svc.domain.tool_rules import (
    KINDS,
    AllowedAfter,
    MaxPerRun,
    RequiredBeforeExit,
    Ruling,
    RunFirst,
    Terminal,
    ToolRule,
    as_fields,
    from_fields,
    in_order,
    named,
    rule,
)
from tests.unit.agent_svc.conversations import NOW, RUN, user

OK, BAD, LOST, OPEN = (
    ToolCallOutcome.SUCCEEDED,
    ToolCallOutcome.FAILED,
    ToolCallOutcome.UNKNOWN,
    ToolCallOutcome.NONE,
)
Calls = Sequence[tuple[str, ToolCallOutcome]]
TOOLS = ("a", "b", "c")


def run_of(*answers: Calls | str) -> list[Message]:
    """A run's messages: each answer is a text, or calls with their outcomes (NONE: no result yet)."""
    messages = [user("hi", 2)]
    for answer in answers:
        seq = messages[-1].seq + 1
        text, wanted = (answer, ()) if isinstance(answer, str) else ("", answer)
        calls = tuple(
            ToolCall(f"{seq}.{place}", name.rstrip("!"), "[" if name.endswith("!") else "{}")
            for place, (name, _) in enumerate(wanted)
        )
        messages.append(Message(UUID(int=seq), RUN, 1, MessageRole.ASSISTANT, text, NOW, seq, tool_calls=calls))
        for call, (_, outcome) in zip(calls, wanted, strict=True):
            if outcome is not OPEN:
                messages.append(_result(call, messages[-1].seq + 1, outcome))
    return messages


def _result(call: ToolCall, seq: int, outcome: ToolCallOutcome) -> Message:
    return Message(
        UUID(int=seq),
        RUN,
        1,
        MessageRole.TOOL,
        "",
        NOW,
        seq,
        tool_call_id=call.id,
        tool_name=call.name,
        tool_outcome=outcome,
    )


def ruled(rules: Sequence[ToolRule], *answers: Calls | str, offered: Sequence[str] = TOOLS) -> Ruling:
    return rule(rules, offered, run_of(*answers))


def refused(rules: Sequence[ToolRule], *names: str) -> list[str]:
    """Which calls of one message, all still to be executed, are refused."""
    messages = run_of([(name, OPEN) for name in names])
    objections = rule(rules, TOOLS, messages).refused
    return [call.name for call in messages[-1].tool_calls if call.id in objections]


# The independent statement: a rule is a predicate over whole sequences of calls that took place.


def _keeps(one: ToolRule, others: Sequence[ToolRule], took_place: Calls) -> bool:
    names = [name for name, _ in took_place]
    match one:
        case RunFirst():
            wanted = [name for other in others if isinstance(other, RunFirst) for name in other.tool_names]
            wanted = sorted(set(wanted), key=wanted.index)
            return all(name == want for name, want in zip(names, wanted, strict=False))
        case Terminal(name):
            ends = [at for at, (called, outcome) in enumerate(took_place) if called == name and outcome in (OK, LOST)]
            if ends and ends[0] != len(names) - 1:
                return False
            must = {other.tool_name for other in others if isinstance(other, RequiredBeforeExit)}
            must |= {wanted for other in others if isinstance(other, RunFirst) for wanted in other.tool_names}
            return all(must <= set(names[: at + 1]) for at, called in enumerate(names) if called == name)
        case AllowedAfter(name, after):
            return all(second in after for first, second in itertools.pairwise(names) if first == name)
        case RequiredBeforeExit():
            return True
        case MaxPerRun(name, calls):
            return names.count(name) <= calls


def _expected(rules: Sequence[ToolRule], calls: Calls) -> tuple[list[bool], set[str], set[str], bool]:
    """By trying: which calls take place, what may follow, what is owed, and whether the run is over."""
    took_place: list[tuple[str, ToolCallOutcome]] = []
    verdicts: list[bool] = []
    for call in calls:
        fine = all(_keeps(one, rules, [*took_place, call]) for one in rules)
        verdicts.append(fine)
        if fine:
            took_place.append(call)
    follow = {name for name in TOOLS if all(_keeps(one, rules, [*took_place, (name, OK)]) for one in rules)}
    owed = {name for one in rules if isinstance(one, RunFirst) for name in one.tool_names}
    owed |= {one.tool_name for one in rules if isinstance(one, RequiredBeforeExit)}
    owed -= {name for name, _ in took_place}
    over = any(isinstance(one, Terminal) and (one.tool_name, OK) in took_place for one in rules)
    return verdicts, follow, owed, over


_POOL: tuple[ToolRule, ...] = (
    RunFirst(("a",)),
    RunFirst(("b", "a")),
    Terminal("a"),
    Terminal("c"),
    AllowedAfter("a", ("b",)),
    AllowedAfter("b", ("a", "c")),
    AllowedAfter("a", ()),
    RequiredBeforeExit("b"),
    RequiredBeforeExit("c"),
    MaxPerRun("a", 1),
    MaxPerRun("b", 2),
)


def _histories(length: int) -> Iterator[Calls]:
    yield from itertools.product(itertools.product(TOOLS, (OK, BAD)), repeat=length)


@pytest.mark.parametrize("together", [False, True], ids=["one call a message", "one message"])
def test_every_small_combination_agrees_with_the_statement(together: bool) -> None:
    checked = 0
    for rules in itertools.chain.from_iterable(itertools.combinations(_POOL, count) for count in range(4)):
        for calls in itertools.chain.from_iterable(_histories(length) for length in range(3)):
            verdicts, follow, owed, over = _expected(rules, calls)
            ruling = ruled(rules, *([calls] if together and calls else [[call] for call in calls]))
            context = f"{rules} {calls}"
            assert set(ruling.allowed) == follow, context
            assert set(ruling.owed) == owed, context
            assert ruling.must_end is over, context
            newest = verdicts if together else verdicts[-1:]
            assert len(ruling.refused) == newest.count(False), context
            if ruling.must_call:
                assert ruling.allowed, context
            assert ruling.stuck is (bool(owed) and not follow and not over), context
            checked += 1
    assert checked == 232 * 43


def test_longer_histories_agree_too() -> None:
    for rules in itertools.combinations(_POOL, 2):
        for calls in itertools.product([("a", OK), ("b", OK), ("c", BAD)], repeat=5):
            verdicts, follow, owed, over = _expected(rules, calls)
            ruling = ruled(rules, calls[:3], calls[3:])
            assert (set(ruling.allowed), set(ruling.owed), ruling.must_end) == (follow, owed, over), f"{rules} {calls}"
            assert len(ruling.refused) == verdicts[3:].count(False), f"{rules} {calls}"


def test_the_first_calls_are_made_in_their_order() -> None:
    rules = [RunFirst(("b", "a"))]
    begin = ruled(rules)
    assert (begin.allowed, begin.must_call, begin.owed) == (("b",), True, ("b", "a"))
    assert ruled(rules, [("b", OK)]).allowed == ("a",)
    after = ruled(rules, [("b", OK)], [("a", BAD)])
    assert (after.allowed, after.must_call, after.owed) == (TOOLS, False, ())
    assert refused(rules, "c", "b", "c", "a", "c") == ["c", "c"]


def test_a_terminal_tool_ends_the_run_unless_it_failed() -> None:
    rules = [Terminal("a")]
    assert ruled(rules, [("a", OK)]).must_end
    assert ruled(rules, [("a", LOST)]).must_end
    assert ruled(rules, [("a", OK)]).allowed == ()
    assert not ruled(rules, [("a", BAD)]).must_end
    assert not ruled(rules, [("a", OPEN)]).must_end
    assert list(ruled(rules, [("a", OK), ("b", OPEN)]).refused.values()) == [
        "The run has ended. No tool may be called now: answer."
    ]


def test_a_terminal_tool_waits_for_what_must_be_called_first() -> None:
    rules = [Terminal("a"), RequiredBeforeExit("b")]
    assert ruled(rules).allowed == ("b", "c")
    assert ruled(rules, [("b", OK)]).allowed == TOOLS
    assert ruled([Terminal("a"), RequiredBeforeExit("a")]).allowed == TOOLS


def test_an_answer_too_early_is_sent_back_with_a_required_call() -> None:
    rules = [RequiredBeforeExit("b")]
    begin = ruled(rules)
    assert (begin.owed, begin.must_call, begin.reminder) == (("b",), False, "")
    early = ruled(rules, "Done!")
    assert (early.owed, early.must_call, early.allowed) == (("b",), True, TOOLS)
    assert "must call b first" in early.reminder
    then = ruled(rules, "Done!", [("c", OK)])
    assert (then.owed, then.must_call, then.reminder) == (("b",), False, "")
    assert ruled(rules, "Done!", [("b", BAD)], "Done!") == Ruling(TOOLS)


def test_nothing_allowed_is_nothing_and_never_all() -> None:
    after = ruled([AllowedAfter("a", ())], [("a", OK)])
    assert (after.allowed, after.must_call, after.stuck) == ((), False, False)


def test_rules_that_cannot_be_kept_are_stuck_and_not_endless() -> None:
    assert ruled([AllowedAfter("a", ()), RequiredBeforeExit("b")], [("a", OK)]).stuck
    assert ruled([RunFirst(("gone",))]).stuck
    assert ruled([RequiredBeforeExit("a")], offered=()).stuck
    assert ruled([RequiredBeforeExit("gone")]).stuck
    # What only other calls could have led to is found out by the limit of steps.
    assert not ruled([AllowedAfter("a", ("b",)), AllowedAfter("b", ("a",)), RequiredBeforeExit("c")], [("a", OK)]).stuck


def test_calls_that_never_reached_their_tool_did_not_happen() -> None:
    rules = [RunFirst(("a",)), MaxPerRun("a", 1)]
    assert ruled(rules, [("a!", BAD)]).allowed == ("a",)
    assert ruled([MaxPerRun("nobody", 1), AllowedAfter("nobody", ())], [("nobody", BAD)]).allowed == TOOLS
    assert ruled([AllowedAfter("b", ())], [("a", OK), ("b!", BAD)]).allowed == TOOLS
    # A tool that was taken away in the middle of the run was called nevertheless.
    assert ruled([RunFirst(("a",))], [("a", OK)], offered=("b", "c")).owed == ()


def test_a_refusal_says_why_and_what_is_allowed() -> None:
    (text,) = ruled([RunFirst(("a",))], [("c", OPEN)]).refused.values()
    assert text == "'c' may not be called yet: 'a' must be called before it. Tools that you may call now: a."
    (text,) = ruled([MaxPerRun("a", 1)], [("a", OK)], [("a", OPEN)]).refused.values()
    assert (
        text == "'a' may not be called again in this run: its limit of 1 is reached. Tools that you may call now: b, c."
    )
    (text,) = ruled([AllowedAfter("a", ("b",))], [("a", OK), ("c", OPEN)]).refused.values()
    assert text == "'c' may not be called right after 'a'. Tools that you may call now: b."


def test_only_refusals_of_the_newest_message_are_told() -> None:
    assert ruled([RunFirst(("a",))], [("c", BAD)], [("a", OPEN)]).refused == {}


def test_the_tightest_of_several_limits_holds() -> None:
    assert ruled([MaxPerRun("a", 2), MaxPerRun("a", 1)], [("a", OK)]).allowed == ("b", "c")


def test_what_needs_an_order() -> None:
    assert [in_order([one]) for one in (RunFirst(("a",)), Terminal("a"), AllowedAfter("a", ()))] == [True] * 3
    assert not in_order([RequiredBeforeExit("a"), MaxPerRun("a", 1)])


def test_every_kind_has_a_form_to_be_stored_and_paths_to_its_names() -> None:
    rules = [RunFirst(("a", "b")), Terminal("a"), AllowedAfter("a", ("b",)), RequiredBeforeExit("c"), MaxPerRun("b", 3)]
    assert {type(one) for one in rules} == set(KINDS.values())
    assert [from_fields(*as_fields(one)) for one in rules] == rules
    assert as_fields(rules[4]) == ("max_per_run", {"tool_name": "b", "calls": 3})
    assert list(named(rules)) == [
        ("tool_rules[0].run_first.tool_names[0]", "a"),
        ("tool_rules[0].run_first.tool_names[1]", "b"),
        ("tool_rules[1].terminal.tool_name", "a"),
        ("tool_rules[2].allowed_after.tool_name", "a"),
        ("tool_rules[2].allowed_after.allowed_tool_names[0]", "b"),
        ("tool_rules[3].required_before_exit.tool_name", "c"),
        ("tool_rules[4].max_per_run.tool_name", "b"),
    ]
