"""Pieces of a message: offsets in code points, and how a watcher joins what it gets, in whatever order and overlap."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agent_svc.domain.delta import PartialMessage
from agent_svc.domain.frame import DeltaFrame, SnapshotFrame
from agent_svc.managers.watcher import Seam

RUN, MESSAGE = UUID(int=1), UUID(int=2)


def delta(offset: int, text: str, *, attempt: int = 1, reasoning: bool = False) -> DeltaFrame:
    return DeltaFrame(RUN, MESSAGE, attempt, reasoning, offset, text)


def test_offsets_count_code_points_of_each_kind() -> None:
    partial = PartialMessage(RUN, MESSAGE, 1)
    partial.add("hm", reasoning=True)
    partial.add("🐕", reasoning=False)
    assert partial.take() == [delta(0, "hm", reasoning=True), delta(0, "🐕")]
    partial.add("é", reasoning=False)
    partial.add("!", reasoning=False)
    assert partial.take() == [delta(1, "é!")]
    assert partial.take() == []


def test_a_snapshot_holds_what_was_sent_and_not_what_waits() -> None:
    partial = PartialMessage(RUN, MESSAGE, 3)
    partial.add("sent", reasoning=False)
    partial.take()
    partial.add(" waits", reasoning=False)
    assert partial.snapshot() == SnapshotFrame(RUN, MESSAGE, 3, "sent", "")


def test_a_watcher_joins_overlapping_pieces() -> None:
    seam = Seam()
    assert seam.join(delta(0, "abc")) == delta(0, "abc")
    assert seam.join(delta(0, "abc")) is None
    assert seam.join(delta(1, "bcde")) == delta(3, "de")


def test_a_missing_piece_asks_for_a_snapshot_and_goes_on_from_it() -> None:
    seam = Seam()
    assert seam.join(delta(5, "x")) is False
    seam.snapshot(SnapshotFrame(RUN, MESSAGE, 1, "abcdef", ""))
    assert seam.join(delta(5, "fg")) == delta(6, "g")


def test_a_new_attempt_begins_again_and_the_old_one_is_over() -> None:
    seam = Seam()
    seam.join(delta(0, "old"))
    assert seam.join(delta(0, "new", attempt=2)) == delta(0, "new", attempt=2)
    assert seam.join(delta(3, "er")) is None


@given(st.text(min_size=1, max_size=40), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=12))
def test_any_mixture_of_repeats_gives_the_text(text: str, pieces: list[tuple[int, int]]) -> None:
    seam, got = Seam(), ""
    for back, length in [*pieces, (0, len(text))]:
        start = max(0, len(got) - back)
        joined = seam.join(delta(start, text[start : start + length]))
        if isinstance(joined, DeltaFrame):
            assert joined.offset == len(got)
            got += joined.text
    assert got == text
