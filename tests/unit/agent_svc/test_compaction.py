"""What becomes a summary and what stays; and that the prompt never outgrows its window, whatever was said."""

from dataclasses import replace
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent_svc.domain.agent import AgentSettings, CompactionSettings
from agent_svc.domain.compaction import (
    LOADED_TOKENS,
    MOST_MESSAGES,
    Plan,
    conversation_tokens,
    plan,
    request_messages,
    without_model,
)
from agent_svc.domain.conversation import Message, MessageRole
from agent_svc.domain.history import fit, in_model_order, since_summary
from agent_svc.domain.model import SystemMessage, UserMessage
from agent_svc.domain.prompt import CompiledMemory, build, notes, system_text, tokens_around
from agent_svc.domain.tokens import estimate_tokens
from agent_svc.managers.caches import HistoryCache
from tests.unit.agent_svc.conversations import NOW, RUN, assistant, result, user

DEFAULT = CompactionSettings()
CONVERSATION = UUID(int=77)


def turn(number: int, size: int = 300) -> list[Message]:
    """A run of its own: a question and an answer."""
    run_id, seq = UUID(int=100 + number), 10 * number
    return [
        user(f"question {number} " + "x" * size, seq + 1, run_seq=seq, run_id=run_id),
        assistant(f"answer {number} " + "y" * size, seq + 2, run_seq=seq, run_id=run_id),
    ]


def turns(count: int, size: int = 300) -> list[Message]:
    return [message for number in range(1, count + 1) for message in turn(number, size)]


def summary_of(found: Plan, seq: int, text: str = "in short", *, run_seq: int = 1, run_id: UUID = RUN) -> Message:
    made = user(text, seq, run_seq=run_seq, run_id=run_id)
    return replace(made, role=MessageRole.SUMMARY, summarized=found.summarized)


def test_a_short_conversation_is_left_alone() -> None:
    assert plan(turns(3), 4000, DEFAULT) is None


def test_the_newest_runs_stay_word_for_word() -> None:
    messages = turns(20)
    found = plan(messages, 4000, DEFAULT)
    assert found is not None
    assert found.replaced == tuple(messages[: len(found.replaced)])
    after = in_model_order([*messages, summary_of(found, 500)])
    assert after[0].role is MessageRole.SUMMARY
    assert after[1:] == messages[len(found.replaced) :]
    assert after[1].role is MessageRole.USER
    assert conversation_tokens(after[1:], 4000) <= 0.3 * 4000
    assert found.tokens_kept == conversation_tokens(after[1:], 4000)
    assert (found.summarized.from_seq, found.summarized.through_seq) == (messages[0].seq, found.replaced[-1].seq)
    assert plan(after, 4000, DEFAULT) is None


def test_in_the_middle_of_a_run_its_question_and_whole_pairs_stay() -> None:
    messages = [user("the task", 2)]
    for step in range(12):
        messages += [
            assistant("z" * 300, 10 + 4 * step, f"c{step}"),
            result(f"c{step}", 12 + 4 * step, "r" * 600),
        ]
    found = plan(messages, 2000, DEFAULT)
    assert found is not None
    after = in_model_order([*messages, summary_of(found, 90)])
    assert [message.role.name for message in after[:3]] == ["SUMMARY", "USER", "ASSISTANT"]
    assert after[1].text == "the task"
    assert after[-1] == messages[-1]
    assert "the task" not in [message.text for message in found.replaced]


def test_a_message_that_waits_for_its_turn_is_not_summed_up() -> None:
    """It was written (and has its seq) before the messages that the summary stands for."""
    first = [user("one", 2)]
    for step in range(12):
        first += [assistant("z" * 300, 10 + 4 * step, f"c{step}"), result(f"c{step}", 12 + 4 * step, "r" * 600)]
    found = plan(first, 2000, DEFAULT)
    assert found is not None
    waiting = user("two", 4, run_seq=3, run_id=UUID(int=8))
    assert waiting in since_summary([first[0], waiting, *first[1:], summary_of(found, 90)])


def test_the_next_summary_is_made_from_the_one_before_it() -> None:
    messages = turns(20)
    found = plan(messages, 4000, DEFAULT)
    assert found is not None
    first = summary_of(found, 500, "She is called Ada.")
    later = in_model_order([*messages, first, *(m for n in range(60, 80) for m in turn(n))])
    again = plan(later, 4000, DEFAULT)
    assert again is not None
    assert again.earlier == first
    assert again.summarized.from_seq == messages[0].seq
    _, asked = request_messages(again, 3000)
    assert isinstance(asked, UserMessage)
    assert "She is called Ada." in asked.text
    assert "She is called Ada." in without_model(again, "the model failed")
    both = [*messages, first, *(m for n in range(60, 80) for m in turn(n)), summary_of(again, 900)]
    assert [m.seq for m in in_model_order(both) if m.role is MessageRole.SUMMARY] == [900]


def test_it_can_be_off_and_it_can_be_forced() -> None:
    messages = turns(20)
    assert plan(messages, 4000, CompactionSettings(enabled=False), forced=True) is None
    assert plan(turns(4), 4000, DEFAULT) is None
    assert plan(turns(4), 4000, CompactionSettings(kept_share=0.05), forced=True) is not None
    assert plan(turns(1), 40, DEFAULT, forced=True) is None
    assert plan([], 40, DEFAULT, forced=True) is None


def test_many_short_messages_are_compacted_before_they_are_no_longer_read() -> None:
    found = plan(turns(MOST_MESSAGES // 2 + 1, 1), LOADED_TOKENS, DEFAULT)
    assert found is not None
    assert len(found.replaced) > MOST_MESSAGES // 2


def test_a_window_larger_than_what_is_read_counts_as_that() -> None:
    assert plan(turns(100, 1000), 1_000_000, DEFAULT) is not None


def test_settings_are_stored_and_old_ones_load() -> None:
    settings = AgentSettings(compaction=CompactionSettings(enabled=False, kept_share=0.2))
    assert msgspec.convert(msgspec.to_builtins(settings), AgentSettings) == settings
    assert msgspec.convert({"max_steps": 3}, AgentSettings).compaction == DEFAULT


def test_what_a_summary_stands_for_leaves_the_cache_and_is_not_read_again() -> None:
    cache = HistoryCache(LOADED_TOKENS)
    messages = turns(20)
    cache.join(CONVERSATION, 0, tuple(messages), cut=False)
    found = plan(messages, 4000, DEFAULT)
    assert found is not None
    summary = summary_of(found, 500, run_seq=498)
    whole = cache.join(CONVERSATION, cache.after_seq(CONVERSATION), (summary,), cut=False)
    assert whole == (*messages[len(found.replaced) :], summary)
    assert cache.after_seq(CONVERSATION) == 500
    assert cache.join(CONVERSATION, 500, (), cut=False) == whole


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Runs with tools, some calls without a result, texts from empty to much larger than the window, in several scripts."""
    sizes = st.one_of(st.integers(0, 300), st.integers(0, 3000), st.integers(0, 60_000))
    letters = st.sampled_from(["a", "é", "日", '"', "a b\n"])
    messages: list[Message] = []
    seq = 1
    for number in range(draw(st.integers(1, 8))):
        run_id, run_seq = UUID(int=number + 1), seq
        seq += 1
        text = draw(letters) * draw(sizes)
        messages.append(user(text, seq, run_seq=run_seq, run_id=run_id))
        for step in range(draw(st.integers(0, 4))):
            seq += 1
            calls = [f"{step}-{call}" for call in range(draw(st.integers(0, 3)))]
            said = assistant(draw(letters) * draw(sizes), seq, *calls, run_seq=run_seq, run_id=run_id)
            if calls and draw(st.booleans()):
                long = msgspec.json.encode({"text": draw(letters) * draw(sizes)}).decode()
                said = replace(said, tool_calls=tuple(replace(call, arguments_json=long) for call in said.tool_calls))
            messages.append(said)
            for call in calls:
                seq += 1
                if draw(st.booleans()):
                    found = draw(letters) * draw(sizes)
                    messages.append(result(call, seq, found, run_seq=run_seq, run_id=run_id))
        seq += 3
    return messages


@given(conversations(), st.integers(1_000, 32_768), st.booleans())
def test_the_bound_holds_and_nothing_that_is_not_summed_up_is_lost(
    messages: list[Message], window: int, forced: bool
) -> None:
    memory = CompiledMemory(core="<block>Ada</block>", recalled="- Rex is a dog.")
    system = system_text("Be brief.", memory)
    answer = min(2048, window // 4)
    room = window - answer - tokens_around(system, notes(NOW, memory.recalled))
    ordered = in_model_order(messages)
    found = plan(ordered, room, DEFAULT, forced=forced)
    replaced: set[int] = set()
    if found is not None:
        assert found.replaced
        replaced = {id(message) for message in found.replaced}
        told, asked = request_messages(found, room)
        assert isinstance(told, SystemMessage)
        assert isinstance(asked, UserMessage)
        assert estimate_tokens(told.text) + estimate_tokens(asked.text) <= room + 40
        text = without_model(found, "the model failed")
        summary = summary_of(found, messages[-1].seq + 5, text, run_seq=messages[-1].run_seq)
        after = in_model_order([*messages, summary])
    else:
        after = ordered
    sent = fit(after, room)
    prompt = build(system, memory.recalled, sent, NOW)
    # Within the window, with the answer's space free.
    assert prompt.estimated_tokens <= window - answer
    counted = sum(
        estimate_tokens(message.text) for message in prompt.messages if isinstance(message, SystemMessage | UserMessage)
    )
    assert counted <= prompt.estimated_tokens
    # Nothing is lost but what the summary stands for, and all is in order.
    stayed = [(m.seq, m.tool_call_id) for m in ordered if id(m) not in replaced]
    got = [(m.seq, m.tool_call_id) for m in sent.messages if m.role is not MessageRole.SUMMARY]
    assert got == stayed
    # Calls and results are whole.
    open_calls: list[str] = []
    for message in sent.messages:
        if message.role is MessageRole.TOOL:
            assert message.tool_call_id == open_calls.pop(0)
        else:
            assert not open_calls
            open_calls = [call.id for call in message.tool_calls]
            for call in message.tool_calls:
                assert isinstance(msgspec.json.decode(call.arguments_json), dict)
    assert not open_calls
