"""Fusion of ranked lists."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_svc.domain.fusion import Fusion, scaled
from memory_svc.domain.search import Signal

A, B, C, D = (uuid.UUID(int=number) for number in range(1, 5))
EVEN = {Signal.DENSE: 0.5, Signal.LEXICAL: 0.5}


def test_each_list_is_scaled_by_its_own_extremes() -> None:
    assert scaled({A: 10.0, B: 20.0, C: 15.0}) == {A: 0.0, B: 1.0, C: 0.5}
    assert scaled({}) == {}


def test_equal_scores_are_all_best() -> None:
    assert scaled({A: 3.0}) == {A: 1.0}
    assert scaled({A: 0.0, B: 0.0}) == {A: 1.0, B: 1.0}


def test_a_list_that_lacks_an_item_does_not_veto_it() -> None:
    fusion = Fusion({Signal.DENSE: {A: 0.9, B: 0.1}, Signal.LEXICAL: {C: 12.0, A: 3.0}}, EVEN)
    assert set(fusion.ranked()) == {A, B, C}
    assert fusion.score(C) == 0.5
    assert fusion.score(B) == 0.0


def test_how_far_ahead_counts_not_only_the_rank() -> None:
    far = Fusion({Signal.DENSE: {A: 1.0, B: 0.5, C: 0.0}, Signal.LEXICAL: {B: 10.0, A: 0.0, C: 9.0}}, EVEN)
    assert far.ranked()[0] == B
    near = Fusion({Signal.DENSE: {A: 1.0, B: 0.1, C: 0.0}, Signal.LEXICAL: {B: 10.0, A: 9.5, C: 0.0}}, EVEN)
    assert near.ranked()[0] == A


def test_ties_have_one_order() -> None:
    lists = {Signal.DENSE: {D: 1.0, B: 1.0, C: 1.0, A: 1.0}}
    assert Fusion(lists).ranked() == Fusion({Signal.DENSE: dict(reversed(lists[Signal.DENSE].items()))}).ranked()


def test_signals_explain_the_score() -> None:
    fusion = Fusion({Signal.DENSE: {A: 0.9, B: 0.1}, Signal.LEXICAL: {C: 12.0, A: 3.0}}, EVEN)
    dense, lexical = fusion.signals(A)
    assert (dense.signal, dense.score, dense.rank, dense.contribution) == (Signal.DENSE, 0.9, 1, 0.5)
    assert (lexical.signal, lexical.score, lexical.rank, lexical.contribution) == (Signal.LEXICAL, 3.0, 2, 0.0)
    assert [part.signal for part in fusion.signals(C)] == [Signal.LEXICAL]


scores = st.dictionaries(
    st.uuids(), st.floats(min_value=-100, max_value=100, allow_nan=False, allow_subnormal=False), max_size=12
)


@given(scores, scores)
def test_contributions_always_add_up(dense: dict[uuid.UUID, float], lexical: dict[uuid.UUID, float]) -> None:
    fusion = Fusion({Signal.DENSE: dense, Signal.LEXICAL: lexical}, EVEN)
    ranked = fusion.ranked()
    assert set(ranked) == dense.keys() | lexical.keys()
    for key in ranked:
        assert sum(part.contribution for part in fusion.signals(key)) == pytest.approx(fusion.score(key))
        assert -1e-9 <= fusion.score(key) <= 1 + 1e-9
    totals = [fusion.score(key) for key in ranked]
    assert totals == sorted(totals, reverse=True)
