"""Limits as a process knows them, and the rates that it holds callers to."""

import asyncio
from collections.abc import Mapping
from uuid import UUID

import pytest

from chassis import ids
from chassis.errors import ResourceExhausted, Unavailable
from chassis.identity import Identity, Role
from chassis.limits import LimitChanges, LimitList, NoLimits, quota_exceeded
from chassis.rates import ORGANIZATION_RATE, USER_RATE, RateLimiter
from tests.support.waiting import until

FIRST, SECOND = ids.new(), ids.new()


class Source:
    """A user_svc of whom only the changes are known."""

    def __init__(self) -> None:
        self.defaults: dict[str, int] = {}
        self.changes: list[tuple[UUID, Mapping[str, int]]] = []
        self.down = False
        self.asked: list[int] = []

    async def after(self, position: int) -> LimitChanges:
        self.asked.append(position)
        if self.down:
            raise Unavailable("away", reason="DEPENDENCY_UNAVAILABLE")
        # One at a time, as pages would come.
        return LimitChanges(
            self.defaults, self.changes[position : position + 1], min(position + 1, len(self.changes)) or position
        )


class Fixed:
    """Limits that do not change."""

    def __init__(self, **values: int) -> None:
        self._values = values

    def of(self, organization_id: UUID, name: str) -> int | None:
        return self._values.get(name)


async def test_own_numbers_go_before_defaults_and_0_is_a_number() -> None:
    source = Source()
    source.defaults = {"runs": 5, "calls": 7}
    source.changes = [(FIRST, {"runs": 0}), (SECOND, {"passages": 9})]
    limits = LimitList(source)
    await limits.refresh()
    assert [limits.of(FIRST, name) for name in ("runs", "calls", "passages")] == [0, 7, None]
    assert [limits.of(SECOND, name) for name in ("runs", "calls", "passages")] == [5, 7, 9]
    assert limits.of(ids.new(), "runs") == 5


async def test_only_what_is_new_is_read_and_a_later_change_replaces_all_of_an_earlier() -> None:
    source = Source()
    source.changes = [(FIRST, {"runs": 1, "calls": 2})]
    limits = LimitList(source)
    await limits.refresh()
    source.changes.append((FIRST, {"calls": 3}))
    await limits.refresh()
    assert (limits.of(FIRST, "runs"), limits.of(FIRST, "calls")) == (None, 3)
    assert source.asked[-2:] == [1, 2]


async def test_a_whole_reading_forgets_what_is_there_no_more() -> None:
    source = Source()
    source.changes = [(FIRST, {"runs": 1})]
    limits = LimitList(source)
    await limits.refresh()
    source.changes = []
    await limits.refresh(whole=True)
    assert limits.of(FIRST, "runs") is None


async def test_known_limits_outlive_their_source() -> None:
    source = Source()
    source.defaults = {"runs": 4}
    limits = LimitList(source, interval_s=0.01)
    await limits.start()
    try:
        assert limits.of(FIRST, "runs") == 4
        source.down = True
        await asyncio.sleep(0.05)
        assert limits.of(FIRST, "runs") == 4
        source.down, source.defaults = False, {"runs": 6}
        await until(lambda: limits.of(FIRST, "runs") == 6)
    finally:
        await limits.stop()


async def test_a_start_does_not_wait_for_ever() -> None:
    source = Source()
    source.down = True
    limits = LimitList(source)
    async with asyncio.timeout(3):
        await limits.start()
        await limits.stop()
    assert limits.of(FIRST, "runs") is None


def _caller(organization_id: UUID = FIRST, subject: str = "user_a", role: Role = Role.MEMBER) -> Identity:
    return Identity(organization_id, subject, role, "token")


class Clock:
    """Stands until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_organization_has_so_many_a_second_and_hinders_no_other() -> None:
    clock = Clock()
    rates = RateLimiter(Fixed(**{ORGANIZATION_RATE: 3}), clock)
    for subject in ("user_a", "user_b", "user_c"):
        rates.admit(_caller(subject=subject))
    with pytest.raises(ResourceExhausted) as refused:
        rates.admit(_caller(subject="user_d"))
    assert (refused.value.reason, refused.value.metadata) == (
        "RATE_LIMITED",
        {"limit": ORGANIZATION_RATE, "value": "3"},
    )
    assert refused.value.retry_after_s == pytest.approx(1 / 3)
    rates.admit(_caller(SECOND))
    clock.now += 0.34
    rates.admit(_caller())
    with pytest.raises(ResourceExhausted):
        rates.admit(_caller())


def test_a_user_has_so_many_and_a_refused_call_costs_the_organization_nothing() -> None:
    rates = RateLimiter(Fixed(**{ORGANIZATION_RATE: 3, USER_RATE: 1}), Clock())
    rates.admit(_caller(subject="user_a"))
    for _ in range(5):
        with pytest.raises(ResourceExhausted) as refused:
            rates.admit(_caller(subject="user_a"))
        assert refused.value.metadata["limit"] == USER_RATE
    rates.admit(_caller(subject="user_b"))
    rates.admit(_caller(subject="user_c"))


def test_an_idle_second_fills_a_bucket_and_no_more() -> None:
    clock = Clock()
    rates = RateLimiter(Fixed(**{USER_RATE: 2}), clock)
    for _ in range(3):
        clock.now += 1000
        rates.admit(_caller())
        rates.admit(_caller())
        with pytest.raises(ResourceExhausted):
            rates.admit(_caller())


def test_services_are_not_counted_and_without_limits_nobody_is() -> None:
    rates = RateLimiter(Fixed(**{ORGANIZATION_RATE: 1, USER_RATE: 1}), Clock())
    free = RateLimiter(NoLimits(), Clock())
    for _ in range(10):
        rates.admit(_caller(role=Role.SERVICE))
        free.admit(_caller())


def test_full_buckets_are_forgotten() -> None:
    clock = Clock()
    rates = RateLimiter(Fixed(**{USER_RATE: 5}), clock)
    for number in range(10_050):
        clock.now += 0.001
        rates.admit(_caller(subject=f"user_{number}"))
    assert len(rates._buckets) <= 10_001


def test_a_used_up_quota_says_which_and_how_much() -> None:
    error = quota_exceeded("concurrent_runs", 10, 10, retry_after_s=1.0)
    assert (error.code, error.reason, error.retry_after_s) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", 1.0)
    assert error.metadata == {"limit": "concurrent_runs", "value": "10", "used": "10"}
    assert quota_exceeded("stored_passages", 0, 0).retry_after_s is None
