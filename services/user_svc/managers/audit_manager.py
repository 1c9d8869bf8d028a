"""The audit log: appended to by services, read and verified by an organization's administrators."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from chassis.audit import AuditRecord
from chassis.errors import not_found
from chassis.identity import Identity
from user_svc.domain.audit_event import AuditEvent, Break, BreakReason, Head, chained, first_break
from user_svc.interfaces.audit_log import AuditFilter, AuditLog, AuditLogs, ChainBroken

_log = logging.getLogger(__name__)

# What one call verifies at most: less than two seconds.
_MAX_VERIFIED = 20_000
_CHUNK = 1_000
_EVERYTHING = AuditFilter()


@dataclass(frozen=True, slots=True)
class Verification:
    """How far the chain holds."""

    verified_count: int
    verified_seq: int
    head: Head
    broken: Break | None = None


class AuditManager:
    """Implements interfaces.audit_log.AuditChain."""

    def __init__(self, logs: AuditLogs) -> None:
        self._logs = logs

    async def append(self, records: Sequence[AuditRecord]) -> set[UUID]:
        """Appends those that are not there yet; one transaction for each organization. Raises DomainError.

        Returns the ids of all but the records of an organization whose log is broken: those wait, and hold up nobody else's.
        """
        there: set[UUID] = set()
        ordered = sorted(records, key=lambda record: (record.organization_id, record.id))
        for organization_id, group in groupby(ordered, key=lambda record: record.organization_id):
            own = {record.id: record for record in group}
            try:
                await self._append(organization_id, own)
            except ChainBroken:
                _log.error("an organization's audit log cannot go on", extra={"organization": str(organization_id)})
            else:
                there.update(own)
        return there

    async def _append(self, organization_id: UUID, records: dict[UUID, AuditRecord]) -> None:
        async with self._logs.of(organization_id) as log:
            head = await log.lock_head()
            known = await log.known(list(records))
            new = chained(head, (record for record_id, record in records.items() if record_id not in known))
            if new:
                await log.append(new)

    async def page(
        self, caller: Identity, wanted: AuditFilter, after: int | None, size: int, *, oldest_first: bool
    ) -> tuple[Sequence[AuditEvent], bool]:
        """A page of records, and whether there are more."""
        async with self._logs.of(caller.organization_id) as log:
            found = await log.page(wanted, after, size + 1, oldest_first=oldest_first)
        return found[:size], len(found) > size

    async def verify(self, caller: Identity, after_seq: int) -> Verification:
        """Recomputes the chain after a record, up to 20,000 records. Raises NotFound when that record is not there."""
        async with self._logs.of(caller.organization_id) as log:
            good = Head()
            if after_seq:
                start = await log.at(after_seq)
                if start is None:
                    raise not_found("audit event", str(after_seq))
                good = Head(start.seq, start.hash)
            while True:
                # Before the records: what is appended in between is then more than the head says, never less.
                head = await log.head()
                events = await log.page(_EVERYTHING, good.seq, _CHUNK, oldest_first=True)
                if events:
                    good, broken = first_break(good, events)
                else:
                    broken = await _broken_end(log, good, head)
                if broken is not None or not events or good.seq >= after_seq + _MAX_VERIFIED:
                    return Verification(good.seq - after_seq, good.seq, head, broken)


async def _broken_end(log: AuditLog, good: Head, head: Head) -> Break | None:
    """What is wrong with the end of a log whose records are good, if anything."""
    if good == head:
        return None
    if good.seq < head.seq:
        return Break(good.seq + 1, None, BreakReason.TRUNCATED)
    last = await log.at(good.seq)
    return Break(good.seq, last.record.id if last else None, BreakReason.HASH_MISMATCH)
