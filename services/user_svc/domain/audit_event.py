"""The audit log of an organization: records in a chain of hashes, so that no record can be changed, moved or taken out unnoticed.

hash(n) = SHA-256(hash(n - 1) ‖ encoding(n)); hash(0) is 32 zero bytes. The encoding is in the comment of hearth.user.v1.AuditEvent, for
others to verify with.
"""

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from chassis import ids
from chassis.audit import AuditRecord

GENESIS = bytes(32)
_VERSION = "hearth.audit.v1"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """A record at its place in the chain."""

    seq: int
    record: AuditRecord
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """The last record that the log is known to have."""

    seq: int = 0
    hash: bytes = GENESIS


class BreakReason(enum.IntEnum):
    """What is wrong with a record. Numbers as in hearth.user.v1.AuditBreakReason."""

    HASH_MISMATCH = 1
    MISSING = 2
    TRUNCATED = 3


@dataclass(frozen=True, slots=True)
class Break:
    """The first record that is not what it was; no id if it is missing."""

    seq: int
    id: UUID | None
    reason: BreakReason


def encode(seq: int, record: AuditRecord) -> bytes:
    """A record as it goes into its hash."""
    texts = (
        _VERSION,
        ids.encode("org", record.organization_id),
        str(seq),
        ids.encode("audit", record.id),
        record.actor,
        record.on_behalf_of,
        record.action,
        record.resource,
        record.outcome,
        str(record.count),
        record.request_id,
        _time(record.create_time),
    )
    encoded = bytearray()
    for text in texts:
        data = text.encode()
        encoded += len(data).to_bytes(4) + data
    return bytes(encoded)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def chained(head: Head, records: Iterable[AuditRecord]) -> list[AuditEvent]:
    """The records after a head, in their order."""
    events: list[AuditEvent] = []
    seq, previous = head.seq, head.hash
    for record in records:
        seq += 1
        previous = hashlib.sha256(previous + encode(seq, record)).digest()
        events.append(AuditEvent(seq, record, previous))
    return events


def first_break(after: Head, events: Iterable[AuditEvent]) -> tuple[Head, Break | None]:
    """Recomputes the chain: the last good record, and what follows it if it is not good. `events` are in the order of seq."""
    good = after
    for event in events:
        if event.seq != good.seq + 1:
            return good, Break(good.seq + 1, None, BreakReason.MISSING)
        (expected,) = chained(good, [event.record])
        if expected.hash != event.hash:
            return good, Break(event.seq, event.record.id, BreakReason.HASH_MISMATCH)
        good = Head(event.seq, event.hash)
    return good, None
