"""The audit log as the edge of a server sees it: opens the record of each call and sees that it is kept."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chassis.audit.declared import Declared
from chassis.audit.outbox import Outbox
from chassis.audit.record import OK, OPEN, PendingRecord
from chassis.audit.refusals import NEVER_BEGUN, RECORDED, Refusals
from chassis.audit.relay import Relay, Road
from chassis.database import Database
from chassis.errors import DomainError
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

_COLLECT_S = 10.0
# What a refused call waits for its record at most; after that it is counted, to be recorded later.
_REFUSAL_S = 2.0


class AuditTrail:
    """The outbox of one service, what writes it beside transactions, and the relay. Goes into the Assembly."""

    def __init__(self, database: Database, road: Road) -> None:
        self._outbox = Outbox(database)
        self._relay = Relay(self._outbox, road)
        self._refusals = Refusals()
        self._collecting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to take records away."""
        await self._relay.start()
        self._collecting = asyncio.create_task(self._collect_now_and_then())

    async def stop(self) -> None:
        """To be called when no call runs any more."""
        if self._collecting is not None:
            await end_task(self._collecting)
        await self._relay.stop()
        await self._collect(everything=True)

    def begin(self, declared: Declared, path: str, request_id: str) -> PendingRecord | None:
        """The record of a call, None if its method leaves none. `path` is `/package.Service/Method`."""
        if not declared.records:
            return None
        return PendingRecord(declared, path[1:].replace("/", "."), request_id, self._relay.wake)

    async def done(self, pending: PendingRecord) -> None:
        """The call ended well; if no transaction held its record, it is kept now. Raises DomainError when it cannot be."""
        if pending.open:
            await self._outbox.put(pending.record(OK))
            pending.kept()

    @asynccontextmanager
    async def around(self, pending: PendingRecord) -> AsyncGenerator[None]:
        """A call whose effect is no transaction: its record is there before the block begins, its outcome after it ends."""
        outcome = ""
        try:
            await self._outbox.put(pending.record(OPEN))
            yield
            outcome = OK
        except DomainError as error:
            outcome = error.code
            raise
        except Exception:
            outcome = "INTERNAL"
            raise
        finally:
            # Even when cancelled: that is an outcome too. Who goes away with the answer in hand has cancelled nothing.
            outcome = outcome or (OK if pending.concluded else "CANCELLED")
            await asyncio.shield(asyncio.ensure_future(self._complete(pending, outcome)))

    async def _complete(self, pending: PendingRecord, outcome: str) -> None:
        record = pending.record(outcome)
        try:
            if outcome in NEVER_BEGUN or (outcome in RECORDED and not self._refusals.is_first(record)):
                await self._outbox.remove([record.id])
            else:
                await self._outbox.complete(record)
        except DomainError:
            _log.warning("the outcome of a call stays unknown to the audit log", extra={"action": pending.action})
        pending.kept()

    async def refused(self, pending: PendingRecord, code: str) -> None:
        """The call was refused; never raises."""
        if not pending.open:
            return
        record = pending.record(code)
        pending.settle()
        if code not in RECORDED or not self._refusals.is_first(record):
            return
        try:
            async with asyncio.timeout(_REFUSAL_S):
                await self._outbox.put(record)
        except (DomainError, TimeoutError):
            self._refusals.is_first(record)
            _log.warning("a refused call is put on record later", extra={"action": record.action})
        else:
            self._relay.wake()

    async def _collect_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(_COLLECT_S)
            await self._collect()

    async def _collect(self, *, everything: bool = False) -> None:
        for record in self._refusals.collect(everything=everything):
            try:
                await self._outbox.put(record)
            except DomainError:
                _log.warning("refused calls are not on record", extra={"action": record.action, "count": record.count})
            else:
                self._relay.wake()
