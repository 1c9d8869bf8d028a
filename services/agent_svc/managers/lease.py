"""Keeps the leases of this process: renews them together, and stops the work of those that are lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from agent_svc.domain.log import Lease
from agent_svc.interfaces.run_log import RunLog
from chassis.errors import DomainError
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

RENEW_EVERY_S = 2.0
# Of the six seconds of a lease, after how many without a renewal its work stops by itself.
GIVE_UP_AFTER_S = 5.0
_FRESH_S = 1.0
_RETRY_S = 0.5
_TIMEOUT_S = 1.5


class _Held:
    """A lease, whom to tell when it is lost, and when it was good for sure."""

    def __init__(self, lease: Lease, lost: Callable[[], None]) -> None:
        self.lease = lease
        self.lost = lost
        self.good_at = time.monotonic()


class LeaseKeeper:
    """One task for all leases: one round trip an organization every two seconds, none for turns that are shorter."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._held: dict[Lease, _Held] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        await end_task(self._task)

    def hold(self, lease: Lease, lost: Callable[[], None]) -> None:
        """Renews a lease that has just been taken; calls `lost` once when that fails."""
        self._held[lease] = _Held(lease, lost)

    def drop(self, lease: Lease) -> None:
        """The lease has ended or is of no more use."""
        self._held.pop(lease, None)

    async def _run(self) -> None:
        while True:
            due = [held for held in self._held.values() if time.monotonic() - held.good_at > _FRESH_S]
            renewed = await self._renew(due)
            self._give_up_stale()
            await asyncio.sleep(RENEW_EVERY_S if renewed else _RETRY_S)

    async def _renew(self, due: list[_Held]) -> bool:
        """Whether the database answered."""
        if not due:
            return True
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                renewed = await self._log.renew([held.lease for held in due])
        except (DomainError, TimeoutError) as error:
            _log.warning("leases could not be renewed", extra={"error": type(error).__name__})
            return False
        except Exception:
            _log.exception("leases could not be renewed")
            return False
        for held in due:
            if held.lease.conversation_id in renewed:
                held.good_at = asked_at
            else:
                self._lose(held)
        return True

    def _give_up_stale(self) -> None:
        now = time.monotonic()
        for held in [held for held in self._held.values() if now - held.good_at > GIVE_UP_AFTER_S]:
            self._lose(held)

    def _lose(self, held: _Held) -> None:
        if self._held.pop(held.lease, None) is not None:
            _log.warning("a lease is lost")
            held.lost()
