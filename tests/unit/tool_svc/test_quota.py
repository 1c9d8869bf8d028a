"""Counting calls of a sliding minute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tool_svc.domain.quota import CallCount


@pytest.mark.parametrize(
    ("calls", "before", "second", "counted"),
    [(0, 0, 0.0, 0), (5, 0, 30.0, 5), (0, 10, 0.0, 10), (0, 10, 30.0, 5), (2, 10, 45.0, 5), (2, 10, 59.9, 3)],
)
def test_the_minute_before_counts_for_its_share(calls: int, before: int, second: float, counted: int) -> None:
    assert CallCount(calls, before, second).last_minute == counted


def test_nothing_ever_fits_under_zero() -> None:
    assert CallCount(0, 0, 10.0).retry_after_s(0) is None


@given(calls=st.integers(0, 500), before=st.integers(0, 500), second=st.floats(0, 59.999), limit=st.integers(1, 300))
def test_who_waits_as_long_as_told_finds_room(calls: int, before: int, second: float, limit: int) -> None:
    count = CallCount(calls, before, second)
    if count.last_minute < limit:
        return
    wait = count.retry_after_s(limit)
    assert wait is not None
    assert 0 < wait <= 120
    then = second + wait + 0.001
    minutes, second = divmod(then, 60)
    later = [CallCount(calls, before, second), CallCount(0, calls, second), CallCount(0, 0, second)][int(minutes)]
    assert later.last_minute < limit
