"""Waiting for what happens by itself."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 20.0, every_s: float = 0.05
) -> None:
    """Returns once a condition holds. Raises TimeoutError."""
    for _ in range(int(timeout_s / every_s)):
        met = condition()
        if met is True or (not isinstance(met, bool) and await met):
            return
        await asyncio.sleep(every_s)
    raise TimeoutError
