"""Finds what was forgotten: dispatches that are due because their message was lost or their worker died."""

from __future__ import annotations

import asyncio
import logging
import secrets

from agent_svc.interfaces.event_bus import DispatchConsumer, EventBus
from agent_svc.interfaces.run_log import RunLog
from chassis.errors import DomainError
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

SWEEP_EVERY_S = 1.0
_BATCH = 200


class Sweep:
    """Once a second, a little off the beat of the other replicas'.

    What this process has room for it takes itself, so that runs go on even while NATS is away; the rest goes to the queue.
    """

    def __init__(self, log: RunLog, bus: EventBus, consumer: DispatchConsumer) -> None:
        self._log = log
        self._bus = bus
        self._consumer = consumer
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        await end_task(self._task)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S * (0.7 + secrets.randbelow(300) / 1000))
            try:
                await self._sweep()
            except DomainError as error:
                _log.warning("the sweep failed", extra={"reason": error.reason})
            except Exception:
                _log.exception("the sweep failed")

    async def _sweep(self) -> None:
        room = self._consumer.capacity()
        limit = _BATCH if self._bus.connected else room
        if limit <= 0:
            return
        for index, dispatch in enumerate(await self._log.due(limit)):
            if index < room:
                self._consumer.offer(dispatch)
            else:
                await self._bus.publish_dispatch(dispatch)
