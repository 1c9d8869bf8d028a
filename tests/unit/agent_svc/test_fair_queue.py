"""Slots and places between organizations."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agent_svc.domain.log import Dispatch
from agent_svc.managers.fair_queue import FairQueue
from chassis import ids

A, B, C = (UUID(int=number) for number in (1, 2, 3))


def dispatch(organization: UUID) -> Dispatch:
    return Dispatch(organization, ids.new())


def filled(queue: FairQueue, organization: UUID, count: int) -> list[Dispatch]:
    """Offers many; returns what runs then."""
    for _ in range(count):
        queue.offer(dispatch(organization))
    running: list[Dispatch] = []
    while (taken := queue.take()) is not None:
        running.append(taken)
    return running


def test_one_alone_has_three_quarters_and_the_next_finds_a_slot() -> None:
    queue = FairQueue(16, 32)
    assert len(filled(queue, A, 100)) == 12
    assert len(filled(queue, B, 100)) == 3
    assert len(filled(queue, C, 100)) == 1


def test_a_single_slot_serves_everybody_in_turn() -> None:
    queue = FairQueue(1, 8)
    (first,) = filled(queue, A, 3)
    assert filled(queue, B, 1) == []
    queue.done(first)
    served: list[UUID] = []
    while (taken := queue.take()) is not None:
        served.append(taken.organization_id)
        queue.done(taken)
    assert served == [B, A, A]


def test_a_slot_that_becomes_free_goes_to_who_has_fewest() -> None:
    queue = FairQueue(4, 16)
    of_a = filled(queue, A, 6)
    assert len(of_a) == 3
    (of_b,) = filled(queue, B, 2)
    queue.done(of_a[0])
    taken = queue.take()
    assert taken is not None
    assert taken.organization_id == B
    queue.done(of_b)
    queue.done(taken)
    again = queue.take()
    assert again is not None
    assert again.organization_id == A


def test_others_wait_only_if_they_are_others() -> None:
    queue = FairQueue(1, 8)
    filled(queue, A, 3)
    assert not queue.others_wait(A)
    assert queue.others_wait(B)
    queue.offer(dispatch(B))
    assert queue.others_wait(A)


def test_what_waits_twice_waits_once() -> None:
    queue = FairQueue(1, 8)
    (running,) = filled(queue, A, 1)
    again = dispatch(A)
    assert queue.offer(again)
    assert queue.offer(again)
    queue.done(running)
    assert queue.take() == again
    queue.done(again)
    assert queue.take() is None


def test_without_slots_nothing_is_kept() -> None:
    queue = FairQueue(0, 0)
    assert queue.room() == 0
    assert not queue.offer(dispatch(A))
    assert queue.take() is None


def test_what_waited_is_handed_out_at_the_end() -> None:
    queue = FairQueue(1, 8)
    filled(queue, A, 3)
    assert len(queue.clear()) == 2
    assert queue.take() is None


@given(
    slots=st.integers(1, 20),
    places=st.integers(1, 40),
    steps=st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(0, 3)), max_size=120),
)
def test_bounds_hold_and_nobody_starves(slots: int, places: int, steps: list[tuple[UUID, int]]) -> None:
    queue = FairQueue(slots, places)
    running: list[Dispatch] = []

    for organization, ended in steps:
        queue.offer(dispatch(organization))
        while (taken := queue.take()) is not None:
            running.append(taken)
        assert len(running) <= slots
        assert queue.room() >= 0
        for one in running[:ended]:
            queue.done(one)
        del running[:ended]
    # Everything that was kept runs in the end, and the slots are whole again.
    for one in running:
        queue.done(one)

    while (taken := queue.take()) is not None:
        queue.done(taken)
    assert queue.room() == slots + places
