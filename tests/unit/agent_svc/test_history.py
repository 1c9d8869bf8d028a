"""The conversation as the model reads it: order, pairs, and what is left out of a window that is too small."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agent_svc.domain.conversation import Message, MessageRole, storable_text
from agent_svc.domain.history import fit, in_model_order, shorten
from agent_svc.domain.tokens import estimate_tokens
from tests.unit.agent_svc.conversations import assistant, result, user

OTHER = UUID(int=8)


def texts(messages: tuple[Message, ...] | list[Message]) -> list[str]:
    return [message.text for message in messages]


def test_a_message_that_waited_stands_behind_the_answer_before_it() -> None:
    first = [user("one", 2, run_seq=1), assistant("answer one", 7, run_seq=1)]
    second = [user("two", 4, run_seq=3, run_id=OTHER), assistant("answer two", 11, run_seq=3, run_id=OTHER)]
    ordered = in_model_order(sorted(first + second, key=lambda message: message.seq))
    assert texts(ordered) == ["one", "answer one", "two", "answer two"]


def test_results_stand_behind_their_calls_in_the_order_of_the_calls() -> None:
    ordered = in_model_order([user("go", 2), assistant("", 4, "a", "b"), result("b", 8, "B"), result("a", 10, "A")])
    assert [message.tool_call_id for message in ordered[2:]] == ["a", "b"]


def test_a_call_that_never_got_a_result_gets_one_that_says_so() -> None:
    dead = [user("go", 2), assistant("", 4, "a", "b"), result("a", 8)]
    ordered = in_model_order([*dead, user("and now?", 12, run_seq=11, run_id=OTHER)])
    repaired = ordered[3]
    assert (repaired.role, repaired.tool_call_id) == (MessageRole.TOOL, "b")
    assert "No result" in repaired.text
    assert ordered[4].text == "and now?"


def test_a_result_without_its_call_is_dropped() -> None:
    assert texts(in_model_order([result("gone", 3), user("hi", 5)])) == ["hi"]


def test_the_newest_messages_stay() -> None:
    messages = [
        message
        for turn in range(20)
        for message in (
            user(f"question {turn} " + "x" * 300, 10 * turn, run_seq=turn, run_id=UUID(int=turn)),
            assistant(f"answer {turn} " + "y" * 300, 10 * turn + 1, run_seq=turn, run_id=UUID(int=turn)),
        )
    ]
    window = fit(messages, 600)
    assert window.messages[-1].text.startswith("answer 19")
    assert window.messages[0].role is MessageRole.USER
    assert window.tokens <= 600
    assert not window.pinned


def test_a_runs_first_message_is_kept_before_the_gap() -> None:
    messages = [user("the task", 2)]
    for step in range(30):
        messages += [assistant("z" * 200, 10 + 4 * step, f"c{step}"), result(f"c{step}", 12 + 4 * step, "r" * 200)]
    window = fit(messages, 800)
    assert window.pinned
    assert window.messages[0].text == "the task"
    assert len(window.messages) < len(messages)
    assert window.messages[1].role is MessageRole.ASSISTANT


def test_one_message_larger_than_the_window_loses_its_middle() -> None:
    window = fit([user("begin " + "m" * 100_000 + " end", 2)], 1000)
    text = window.messages[0].text
    assert text.startswith("begin ")
    assert text.endswith(" end")
    assert "left out" in text
    assert estimate_tokens(text) <= 1000


def test_a_short_text_is_not_copied() -> None:
    text = "short"
    assert shorten(text, 100) is text


def test_text_without_spaces_in_other_scripts_counts_for_more() -> None:
    assert estimate_tokens("日本語" * 100) > 2.5 * estimate_tokens("abc" * 100)


def test_what_postgres_and_protobuf_cannot_hold_is_replaced() -> None:
    assert storable_text("a\x00b\ud800c") == "a\ufffdb\ufffdc"
    assert storable_text("🐕") == "🐕"


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    messages: list[Message] = []
    seq = 1
    for turn in range(draw(st.integers(1, 6))):
        run_id = UUID(int=turn + 1)
        messages.append(user("u" * draw(st.integers(1, 400)), seq, run_seq=seq, run_id=run_id))
        run_seq = seq
        for step in range(draw(st.integers(0, 3))):
            seq += 10
            calls = [f"{step}-{number}" for number in range(draw(st.integers(0, 3)))]
            messages.append(assistant("a" * draw(st.integers(0, 400)), seq, *calls, run_seq=run_seq, run_id=run_id))
            for call in draw(st.permutations(calls)):
                seq += 1
                if draw(st.booleans()):
                    messages.append(result(call, seq, "r" * draw(st.integers(0, 900)), run_seq=run_seq, run_id=run_id))
        seq += 10
    return messages


@given(conversations(), st.integers(64, 2000))
def test_no_window_splits_a_pair_or_is_empty(messages: list[Message], budget: int) -> None:
    ordered = in_model_order(messages)
    window = fit(ordered, budget)
    assert window.messages
    assert window.messages[-1].seq == ordered[-1].seq or ordered[-1].role is MessageRole.TOOL
    open_calls: list[str] = []
    for message in window.messages:
        if message.role is MessageRole.TOOL:
            assert message.tool_call_id == open_calls.pop(0)
        else:
            assert not open_calls
            open_calls = [call.id for call in message.tool_calls]
    assert not open_calls
    assert window.tokens == sum(message.tokens for message in window.messages)
