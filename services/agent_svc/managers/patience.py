"""Waiting for another service that is away: a turn survives its restart, and ends with a clear reason if it stays away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from chassis.errors import DeadlineExceeded, DomainError, ResourceExhausted, Unavailable

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Patience:
    """Repeats what is safe to repeat for `seconds`, with growing pauses."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def with_retries(self, call: Callable[[], Awaitable[T]], *, timeout_s: float) -> T:
        """The call's answer. Each try gets `timeout_s` seconds; raises the last try's DomainError when time is up."""
        until = time.monotonic() + self._seconds
        pause = 0.1
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    return await call()
            except TimeoutError:
                error: DomainError = DeadlineExceeded("the call took too long", reason="DEADLINE_EXCEEDED")
            except (Unavailable, DeadlineExceeded, ResourceExhausted) as failure:
                error = failure
            if error.reason == "QUOTA_EXCEEDED" or time.monotonic() + pause > until:
                # A limit of an organization's is told at once: waiting for it is not the turn's to decide.
                raise error
            _log.info("a service is away, trying again", extra={"reason": error.reason})
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
