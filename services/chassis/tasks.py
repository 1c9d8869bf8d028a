"""Ending background tasks for certain."""

import asyncio
from typing import Any

# Longer than any orderly ending takes: cancelling again would interrupt it.
_AGAIN_S = 3.0


async def end_task(task: "asyncio.Task[Any] | None") -> None:
    """Cancels a task and returns once it has ended, however it did; None is no task.

    A cancellation can get lost on its way: `asyncio.wait_for` of Python 3.11, which libraries use, swallows one that comes in
    the same turn of the loop as what it waits for. So it is repeated until the task has ended.
    """
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_S)
