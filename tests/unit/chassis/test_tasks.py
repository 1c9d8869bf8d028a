"""Background tasks end, even if one does not hear it the first time."""

import asyncio

import pytest

from chassis import tasks
from chassis.tasks import end_task


async def test_a_waiting_task_ends() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    await end_task(task)
    assert task.cancelled()


async def test_a_task_that_lost_its_cancellation_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_AGAIN_S", 0.01)
    poked = asyncio.Event()

    async def work() -> None:
        while True:
            await asyncio.wait_for(poked.wait(), 60)
            poked.clear()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    poked.set()
    # One turn later the inner wait has ended and the outer one does not know yet: there 3.11 swallows a cancellation.
    await asyncio.sleep(0)
    await asyncio.wait_for(end_task(task), 5)
    assert task.done()


async def test_one_that_fails_while_it_ends_is_no_failure() -> None:
    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("in its last moment")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end_task(task)
    assert isinstance(task.exception(), ValueError)


async def test_nothing_and_what_has_ended_are_no_work() -> None:
    await end_task(None)
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await end_task(task)
    assert not task.cancelled()
