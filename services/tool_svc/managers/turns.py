"""A fair share of the sandbox: no organization occupies all of it, however many calls it makes."""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chassis.errors import ResourceExhausted

_RETRY_AFTER_S = 1.0


class Turns:
    """At most `at_once` calls of an organization run; `waiting` more stand in its own line, the rest are turned away."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once = at_once
        self._most = at_once + waiting
        self._lines: dict[uuid.UUID, _Line] = {}

    @asynccontextmanager
    async def turn(self, organization_id: uuid.UUID) -> AsyncGenerator[None]:
        """Raises ResourceExhausted RATE_LIMITED."""
        line = self._lines.setdefault(organization_id, _Line(self._at_once))
        if line.calls >= self._most:
            message = "as many tools of this organization run and wait as this server allows"
            raise ResourceExhausted(message, reason="RATE_LIMITED", retry_after_s=_RETRY_AFTER_S)
        line.calls += 1
        try:
            async with line.places:
                yield
        finally:
            line.calls -= 1
            if line.calls == 0:
                self._lines.pop(organization_id, None)


class _Line:
    def __init__(self, at_once: int) -> None:
        self.places = asyncio.Semaphore(at_once)
        self.calls = 0
