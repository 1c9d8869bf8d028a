"""Takes records from the outbox to where the chain is made, again and again until they are there."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from chassis.audit.outbox import Outbox
from chassis.audit.record import AuditRecord
from chassis.errors import DomainError
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

# Seconds that records gather before they are taken along.
_GATHER_S = 0.5
# Seconds after which it looks for what others left behind.
_SWEEP_S = 10.0


class Road(Protocol):
    """Leads to the chain."""

    async def open(self, relay: "Relay") -> None:
        """Begins; tells the relay what has arrived, and when what was sent may be lost."""
        ...

    async def send(self, records: Sequence[AuditRecord]) -> bool:
        """Whether they are on the way. Whether they arrived is told by `arrived`."""
        ...


class Relay:
    """Background work of each replica; they share the work by locking rows."""

    def __init__(self, outbox: Outbox, road: Road) -> None:
        self._outbox = outbox
        self._road = road
        self._awake = asyncio.Event()
        self._lost = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins."""
        await self._road.open(self)
        self._awake.set()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends; what is left waits for the next start, or another replica."""
        task, self._task = self._task, None
        if task is not None:
            await end_task(task)

    def wake(self) -> None:
        """There are new records."""
        self._awake.set()

    def lost(self) -> None:
        """What was sent may not arrive: all of it goes again."""
        self._lost = True
        self._awake.set()

    async def arrived(self, ids: Sequence[UUID]) -> None:
        """These are in the chain."""
        try:
            await self._outbox.remove(ids)
        except DomainError:
            _log.info("audit records that have arrived will be sent once more")

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_SWEEP_S):
                    await self._awake.wait()
                # In bulk: a record costs a twentieth of what it costs alone.
                await asyncio.sleep(_GATHER_S)
            except TimeoutError:
                pass
            self._awake.clear()
            try:
                await self._drain()
            except DomainError as error:
                _log.warning("audit records wait", extra={"reason": error.reason})
            except Exception:
                _log.exception("audit records wait")

    async def _drain(self) -> None:
        if self._lost:
            await self._outbox.release_all()
            self._lost = False
        while records := await self._outbox.claim():
            if not await self._sent(records):
                await self._outbox.release(records)
                return

    async def _sent(self, records: Sequence[AuditRecord]) -> bool:
        try:
            return await self._road.send(records)
        except DomainError as error:
            _log.warning("audit records wait", extra={"reason": error.reason})
            return False
