"""Each organization has a line of its own."""

import asyncio
import uuid

import pytest

from chassis.errors import ResourceExhausted
from tool_svc.managers.turns import Turns

A, B = uuid.uuid4(), uuid.uuid4()


async def test_others_do_not_wait_and_too_many_are_turned_away() -> None:
    turns, over, running = Turns(2, 3), asyncio.Event(), list[str]()

    async def call(organization: uuid.UUID, name: str) -> None:
        async with turns.turn(organization):
            running.append(name)
            await over.wait()

    tasks = [asyncio.create_task(call(A, "a")) for _ in range(5)]
    tasks.append(asyncio.create_task(call(B, "b")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(running) == ["a", "a", "b"]
    with pytest.raises(ResourceExhausted) as refused:
        await call(A, "a")
    assert (refused.value.reason, refused.value.retry_after_s) == ("RATE_LIMITED", 1.0)
    over.set()
    await asyncio.gather(*tasks)
    assert sorted(running) == ["a"] * 5 + ["b"]


async def test_who_gives_up_leaves_the_line() -> None:
    turns = Turns(1, 1)
    for _ in range(5):
        async with turns.turn(A):
            waiting = asyncio.create_task(_pass(turns))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    async with turns.turn(A):
        pass


async def _pass(turns: Turns) -> None:
    async with turns.turn(A):
        pass
