"""Waits between attempts: exponential, with jitter, within a total."""

import asyncio
import random
import time

_random = random.SystemRandom()


class Backoff:
    """Attempts at one thing. `patience_s` seconds after the first failure it gives up; `reset` begins anew."""

    def __init__(self, patience_s: float, *, first_s: float = 0.05, most_s: float = 2.0) -> None:
        self.patience_s = patience_s
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s
        self._failing_since: float | None = None

    def reset(self) -> None:
        """Something worked: the next failure is a first one."""
        self._next_s = self._first_s
        self._failing_since = None

    async def pause(self, at_least_s: float | None = None) -> bool:
        """Waits before the next attempt. False, without waiting, if patience would be over by then."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        delay = max(self._next_s * _random.uniform(0.5, 1.0), at_least_s or 0.0)
        if now + delay > self._failing_since + self.patience_s:
            return False
        self._next_s = min(self._next_s * 2, self._most_s)
        await asyncio.sleep(delay)
        return True
