"""The loop's decision over every state that a crash can leave behind."""

import pytest

from agent_svc.domain.conversation import Message, ToolCallOutcome
from agent_svc.domain.decision import Action, CallFate, CallModel, ExecuteTools, Finish, LedgerEntry, decide
from agent_svc.domain.run import RunStopReason
from agent_svc.domain.tool_rules import Ruling
from tests.unit.agent_svc.conversations import assistant, result, user


def decided(
    *messages: Message,
    ledger: tuple[LedgerEntry, ...] = (),
    steps: int = 0,
    max_steps: int = 20,
    tokens_left: bool = True,
    ruling: Ruling | None = None,
) -> Action:
    return decide(
        messages,
        {entry.tool_call_id: entry for entry in ledger},
        steps=steps,
        max_steps=max_steps,
        tokens_left=tokens_left,
        ruling=ruling,
    )


def fates(action: Action) -> dict[str, CallFate]:
    assert isinstance(action, ExecuteTools)
    return {pending.call.id: pending.fate for pending in action.calls}


def begun(call: str, *, repeatable: bool = False, outcome: ToolCallOutcome = ToolCallOutcome.NONE) -> LedgerEntry:
    return LedgerEntry(call, outcome, repeatable)


def test_a_new_run_calls_the_model() -> None:
    assert decided(user("hi", 2)) == CallModel(1)


def test_a_worker_that_died_in_the_models_stream_left_nothing_and_the_step_is_repeated() -> None:
    assert decided(user("hi", 2), assistant("", 5, "a"), result("a", 7), steps=1) == CallModel(2)


def test_an_answer_ends_the_run() -> None:
    assert decided(user("hi", 2), assistant("hello", 4), steps=1) == Finish(RunStopReason.FINAL_ANSWER)


def test_an_empty_answer_ends_the_run_too() -> None:
    assert decided(user("hi", 2), assistant("", 4), steps=1) == Finish(RunStopReason.FINAL_ANSWER)


def test_calls_that_nobody_began_are_executed() -> None:
    assert fates(decided(user("hi", 2), assistant("", 4, "a", "b"), steps=1)) == {
        "a": CallFate.EXECUTE,
        "b": CallFate.EXECUTE,
    }


def test_a_call_that_was_begun_and_not_ended_is_unknown() -> None:
    action = decided(user("hi", 2), assistant("", 4, "a", "b"), ledger=(begun("a"),), steps=1)
    assert fates(action) == {"a": CallFate.REPORT_UNKNOWN, "b": CallFate.EXECUTE}


def test_a_begun_call_of_a_repeatable_tool_is_executed_again() -> None:
    action = decided(user("hi", 2), assistant("", 4, "a"), ledger=(begun("a", repeatable=True),), steps=1)
    assert fates(action) == {"a": CallFate.EXECUTE}


def test_calls_with_results_are_left_alone() -> None:
    messages = user("hi", 2), assistant("", 4, "a", "b", "c"), result("b", 9)
    ledger = (begun("a"), begun("b", outcome=ToolCallOutcome.SUCCEEDED), begun("c", repeatable=True))
    assert fates(decided(*messages, ledger=ledger, steps=1)) == {"a": CallFate.REPORT_UNKNOWN, "c": CallFate.EXECUTE}


def test_all_results_there_in_any_order_calls_the_model() -> None:
    messages = user("hi", 2), assistant("", 4, "a", "b"), result("b", 9), result("a", 11)
    assert decided(*messages, steps=1) == CallModel(2)


def test_only_the_newest_assistant_message_counts() -> None:
    messages = user("hi", 2), assistant("", 4, "a"), result("a", 6), assistant("", 8, "b")
    assert fates(decided(*messages, steps=2)) == {"b": CallFate.EXECUTE}


def test_an_answer_to_a_call_of_the_same_id_in_an_earlier_step_does_not_count() -> None:
    messages = user("hi", 2), assistant("", 4, "a"), result("a", 6), assistant("", 8, "a")
    assert fates(decided(*messages, steps=2)) == {"a": CallFate.EXECUTE}


@pytest.mark.parametrize(("steps", "expected"), [(2, CallModel(3)), (3, Finish(RunStopReason.STEP_LIMIT))])
def test_the_limit_of_steps(steps: int, expected: Action) -> None:
    messages = user("hi", 2), assistant("", 4, "a"), result("a", 6)
    assert decided(*messages, steps=steps, max_steps=3) == expected


def test_the_last_allowed_steps_tools_are_still_executed() -> None:
    assert fates(decided(user("hi", 2), assistant("", 4, "a"), steps=3, max_steps=3)) == {"a": CallFate.EXECUTE}


def test_an_answer_at_the_limit_of_steps_is_a_success() -> None:
    assert decided(user("hi", 2), assistant("done", 4), steps=3, max_steps=3) == Finish(RunStopReason.FINAL_ANSWER)


def test_a_history_cut_before_the_user_message_is_enough() -> None:
    assert decided(assistant("", 4, "a"), result("a", 6), steps=7) == CallModel(8)


OWES = Ruling(("log",), owed=("log",))


def test_an_answer_does_not_end_a_run_that_owes_a_call() -> None:
    early = user("hi", 2), assistant("done!", 4)
    assert decided(*early, steps=1, ruling=OWES) == CallModel(2)
    assert decided(*early, steps=1, ruling=Ruling(("log",))) == Finish(RunStopReason.FINAL_ANSWER)
    assert decided(*early, steps=3, max_steps=3, ruling=OWES) == Finish(RunStopReason.STEP_LIMIT)


def test_a_terminal_tool_ends_the_run_when_every_call_has_its_result() -> None:
    over = Ruling((), must_end=True)
    called = user("hi", 2), assistant("", 4, "a", "b"), result("a", 7)
    assert fates(decided(*called, steps=1, ruling=over)) == {"b": CallFate.EXECUTE}
    assert decided(*called, result("b", 9), steps=1, ruling=over) == Finish(RunStopReason.TERMINAL_TOOL)
    ended = decided(*called, result("b", 9), steps=3, max_steps=3, tokens_left=False, ruling=over)
    assert ended == Finish(RunStopReason.TERMINAL_TOOL)


def test_a_run_that_cannot_keep_its_rules_stops_before_the_next_model_call() -> None:
    stuck = Ruling((), owed=("log",), stuck=True)
    assert decided(user("hi", 2), ruling=stuck) == Finish(RunStopReason.ERROR)
    assert decided(user("hi", 2), assistant("done!", 4), steps=1, ruling=stuck) == Finish(RunStopReason.ERROR)


def test_no_model_is_called_without_tokens() -> None:
    called = user("hi", 2), assistant("", 4, "a")
    assert fates(decided(*called, steps=1, tokens_left=False)) == {"a": CallFate.EXECUTE}
    assert decided(*called, result("a", 7), steps=1, tokens_left=False) == Finish(RunStopReason.TOKEN_LIMIT)
    assert decided(user("hi", 2), assistant("hello", 4), steps=1, tokens_left=False) == Finish(
        RunStopReason.FINAL_ANSWER
    )
