"""MessageAssembler: whatever is dropped, doubled or late, the text is right."""

from hypothesis import given
from hypothesis import strategies as st

from hearth.agent.v1.conversation_pb2 import Message
from hearth.agent.v1.event_pb2 import DeltaKind, Frame
from hearth_client import MessageAssembler

TEXT, REASONING = DeltaKind.DELTA_KIND_TEXT, DeltaKind.DELTA_KIND_REASONING


def delta(offset: int, text: str, *, attempt: int = 1, kind: DeltaKind.ValueType = TEXT) -> Frame:
    frame = Frame()
    frame.delta.message_id = "m"
    frame.delta.attempt = attempt
    frame.delta.kind = kind
    frame.delta.offset = offset
    frame.delta.text = text
    return frame


def snapshot(text: str, *, attempt: int = 1, reasoning: str = "") -> Frame:
    frame = Frame()
    frame.snapshot.message_id = "m"
    frame.snapshot.attempt = attempt
    frame.snapshot.text = text
    frame.snapshot.reasoning = reasoning
    return frame


def restarted(attempt: int) -> Frame:
    frame = Frame()
    frame.event.step_restarted.message_id = "m"
    frame.event.step_restarted.attempt = attempt
    return frame


def completed(text: str, reasoning: str = "") -> Frame:
    frame = Frame()
    frame.event.message_completed.message.CopyFrom(Message(id="m", text=text, reasoning=reasoning))
    return frame


def test_deltas_in_order() -> None:
    assembler = MessageAssembler()
    changes = [assembler.feed(delta(0, "Hel")), assembler.feed(delta(3, "lo")), assembler.feed(completed("Hello!"))]
    assert [c.text_added for c in changes if c] == ["Hel", "lo", "!"]
    assert [c.replaced for c in changes if c] == [False] * 3
    assert [m.text for m in assembler.messages] == ["Hello!"]


def test_offsets_count_characters_not_bytes_or_utf16_units() -> None:
    assembler = MessageAssembler()
    assembler.feed(delta(0, "🎲é"))
    change = assembler.feed(delta(2, "!"))
    assert change is not None
    assert change.text == "🎲é!"


def test_doubles_and_overlaps_change_nothing_twice() -> None:
    assembler = MessageAssembler()
    assembler.feed(delta(0, "Hello"))
    assert assembler.feed(delta(0, "Hello")) is None
    assert assembler.feed(delta(1, "ell")) is None
    change = assembler.feed(delta(3, "lo!"))
    assert change is not None
    assert (change.text, change.text_added) == ("Hello!", "!")


def test_a_gap_waits_for_a_snapshot() -> None:
    assembler = MessageAssembler()
    assembler.feed(delta(0, "a"))
    assert assembler.feed(delta(2, "c")) is None
    assert assembler.partial_text("m") == "a"
    change = assembler.feed(snapshot("abc"))
    assert change is not None
    assert (change.text_added, change.replaced) == ("bc", False)


def test_a_late_snapshot_takes_nothing_back() -> None:
    assembler = MessageAssembler()
    assembler.feed(delta(0, "abc"))
    assert assembler.feed(snapshot("ab")) is None
    assert assembler.partial_text("m") == "abc"


def test_a_new_attempt_replaces_the_old_one() -> None:
    assembler = MessageAssembler()
    assembler.feed(delta(0, "old"))
    change = assembler.feed(restarted(2))
    assert change is not None
    assert (change.replaced, change.text) == (True, "")
    assert assembler.feed(delta(3, " zombie")) is None
    assert assembler.feed(snapshot("old zombie")) is None
    assembler.feed(delta(0, "new", attempt=2))
    assert assembler.partial_text("m") == "new"


def test_an_attempt_that_is_seen_before_its_restart_replaces_too() -> None:
    assembler = MessageAssembler()
    assembler.feed(delta(0, "old"))
    assembler.feed(delta(0, "new", attempt=2))
    assert assembler.feed(restarted(2)) is None
    assert assembler.partial_text("m") == "new"


def test_a_complete_message_stays_as_it_is() -> None:
    assembler = MessageAssembler()
    assembler.feed(completed("done", "because"))
    for late in (delta(4, "x"), snapshot("x", attempt=9), restarted(9), completed("done")):
        assert assembler.feed(late) is None
    assert [m.text for m in assembler.messages] == ["done"]


def test_reasoning_is_apart_from_text() -> None:
    assembler = MessageAssembler()
    change = assembler.feed(delta(0, "hm", kind=REASONING))
    assert change is not None
    assert (change.reasoning_added, change.text) == ("hm", "")
    change = assembler.feed(delta(0, "Yes"))
    assert change is not None
    assert (change.text_added, change.reasoning) == ("Yes", "hm")


texts = st.text(alphabet="ab🎲 é", max_size=12)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[str], list[Frame]]:
    """What each attempt writes, and what a reader may get of it: pieces dropped, doubled and late, snapshots in between, zombies of old
    attempts; restarts in order, and the complete message last."""
    attempts = draw(st.lists(texts, min_size=1, max_size=3))
    frames: list[Frame] = []
    old: list[Frame] = []
    for number, text in enumerate(attempts, start=1):
        if number > 1:
            frames.append(restarted(number))
        pieces: list[Frame] = []
        at = 0
        while at < len(text):
            size = draw(st.integers(1, 4))
            pieces.append(delta(at, text[at : at + size], attempt=number))
            at += size
        cuts = draw(st.lists(st.integers(0, len(text)), max_size=3))
        pieces += [snapshot(text[:cut], attempt=number) for cut in cuts]
        old += pieces
        if pieces:
            frames += draw(st.lists(st.sampled_from(pieces), max_size=12))
        if old:
            frames += draw(st.lists(st.sampled_from(old), max_size=3))
    if draw(st.booleans()):
        frames.append(snapshot(attempts[-1], attempt=len(attempts)))
    return attempts, [
        *frames,
        completed(attempts[-1]),
        *draw(st.lists(st.sampled_from(old), max_size=2) if old else st.just([])),
    ]


@given(histories())
def test_any_history_gives_the_right_text(history: tuple[list[str], list[Frame]]) -> None:
    attempts, frames = history
    assembler = MessageAssembler()
    shown = ""
    newest = 1
    for frame in frames:
        attempt = frame.delta.attempt or frame.snapshot.attempt or frame.event.step_restarted.attempt
        newest = max(newest, attempt)
        change = assembler.feed(frame)
        if change is not None:
            # A screen that does what it is told.
            shown = change.text if change.replaced else shown + change.text_added
            assert shown == change.text
        assert attempts[newest - 1].startswith(shown)
    assert shown == attempts[-1]
    assert [m.text for m in assembler.messages] == [attempts[-1]]


@given(st.text(alphabet="ab🎲é", min_size=1, max_size=30), st.data())
def test_a_snapshot_heals_any_gap_without_the_complete_message(text: str, data: st.DataObject) -> None:
    pieces = [delta(i, c) for i, c in enumerate(text)]
    lost = data.draw(st.sets(st.integers(0, len(text) - 1)))
    assembler = MessageAssembler()
    for i, piece in enumerate(pieces):
        if i not in lost:
            assembler.feed(piece)
    assembler.feed(snapshot(text))
    assert assembler.partial_text("m") == text
