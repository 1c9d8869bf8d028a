"""Refused calls cost the caller nothing, so they must not cost a record each: equal ones are counted by the minute.

The first of a kind is put on record as it is. Those that follow within a minute become one record with their count.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from uuid import UUID

from chassis import ids
from chassis.audit.record import AuditRecord

# Codes that say what a caller may or could not do. Others tell of the server's own state, and nothing was decided.
RECORDED = frozenset(
    {
        *("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED"),
        *("FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    }
)
# Codes that leave no record even of a call that is recorded ahead: it was turned away before it did anything.
NEVER_BEGUN = frozenset({"UNIMPLEMENTED", "RESOURCE_EXHAUSTED"})
WINDOW_S = 60.0
_MAX_KINDS = 10_000

_Kind = tuple[UUID, str, str, str, str]


@dataclass(slots=True)
class _Counted:
    until: float
    last: AuditRecord | None = None
    count: int = 0


class Refusals:
    """Counts refused calls by who, what and why."""

    def __init__(self) -> None:
        # In the order of their ends.
        self._kinds: OrderedDict[_Kind, _Counted] = OrderedDict()

    def is_first(self, record: AuditRecord) -> bool:
        """Whether this one is to be put on record itself; otherwise it has been counted."""
        kind = (record.organization_id, record.actor, record.on_behalf_of, record.action, record.outcome)
        known = self._kinds.get(kind)
        if known is not None and known.until > time.monotonic():
            known.last, known.count = record, known.count + 1
            return False
        if known is not None and known.count:
            # Its minute is over and it has not been collected: that comes with this one.
            known.last, known.count = record, known.count + 1
            return False
        self._kinds.pop(kind, None)
        self._kinds[kind] = _Counted(time.monotonic() + WINDOW_S)
        return True

    def collect(self, *, everything: bool = False) -> list[AuditRecord]:
        """What has been counted in minutes that are over, or at all. Names a resource and a request only if it was one call."""
        now = time.monotonic()
        collected: list[AuditRecord] = []
        while self._kinds:
            kind, counted = next(iter(self._kinds.items()))
            if not everything and counted.until > now and len(self._kinds) <= _MAX_KINDS:
                break
            del self._kinds[kind]
            if counted.last is not None:
                collected.append(_summary(counted.last, counted.count))
        return collected


def _summary(last: AuditRecord, count: int) -> AuditRecord:
    if count == 1:
        return last
    return replace(last, id=ids.new(), resource="", request_id="", count=count)
