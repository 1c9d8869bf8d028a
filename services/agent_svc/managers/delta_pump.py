"""Sends the pieces of a message to its watchers while the model writes it: the first at once, then grouped."""

from __future__ import annotations

import asyncio
from types import TracebackType
from uuid import UUID

from agent_svc.domain.delta import GROUPING_S, PartialMessage
from agent_svc.managers.hub import Hub
from agent_svc.managers.live_runs import LiveRuns


class DeltaPump:
    """Use as a context around a model's stream; on leaving, all that came has been sent."""

    def __init__(self, hub: Hub, live: LiveRuns, conversation_id: UUID, partial: PartialMessage) -> None:
        self._hub = hub
        self._live = live
        self._conversation_id = conversation_id
        self._partial = partial
        self._loop = asyncio.get_running_loop()
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._late: asyncio.Task[None] | None = None

    async def __aenter__(self) -> DeltaPump:
        self._live.writing(self._partial, self._partial.run_id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._late is not None:
            await self._late
        if error is None:
            await self._publish()

    async def add(self, text: str, *, reasoning: bool) -> None:
        """More of the message; sent now if nothing was sent for a while, else together with what follows."""
        self._partial.add(text, reasoning=reasoning)
        now = self._loop.time()
        if now >= self._next and self._timer is None:
            self._next = now + GROUPING_S
            await self._publish()
        elif self._timer is None:
            self._timer = self._loop.call_at(self._next, self._send_late)

    def _send_late(self) -> None:
        self._timer = None
        self._next = self._loop.time() + GROUPING_S
        self._late = self._loop.create_task(self._publish())

    async def _publish(self) -> None:
        frames = self._partial.take()
        if frames:
            await self._hub.publish(self._conversation_id, frames)
