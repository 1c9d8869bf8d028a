"""The audit log's chain of hashes, recomputed here: what a server says of its own log is no proof.

How a record goes into its hash is in the comment of hearth.user.v1.AuditEvent.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable
from dataclasses import dataclass
from datetime import UTC

from hearth.user.v1.audit_event_pb2 import AuditEvent

_VERSION = "hearth.audit.v1"


@dataclass(frozen=True)
class Mark:
    """A record's place and hash, as they were noted elsewhere: `SEQ:HASH`."""

    seq: int = 0
    hash: str = "00" * 32

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Raises ValueError for what is no mark."""
        seq, _, digest = text.partition(":")
        if len(bytes.fromhex(digest)) != 32 or int(seq) < 1:
            raise ValueError(f"{text!r} is no mark")
        return cls(int(seq), digest.lower())


@dataclass(frozen=True)
class AuditProblem:
    """The first record that is not what it was, or is not there; then it has no id."""

    seq: int
    id: str
    problem: str


@dataclass(frozen=True)
class AuditVerdict:
    """How many records are good, the last of them, and what is wrong after it, if anything is."""

    verified_count: int
    head: Mark
    problem: AuditProblem | None = None


async def verify(events: AsyncIterable[AuditEvent], expected: Mark | None = None) -> AuditVerdict:
    """Recomputes a whole log, from its first record on in the order of the chain. `expected` must be a record of it."""
    count, head = 0, Mark()
    async for event in events:
        problem = _problem(event, head, expected)
        if problem is not None:
            return AuditVerdict(count, head, problem)
        count, head = count + 1, Mark(event.seq, event.hash)
    if expected is not None and head.seq < expected.seq:
        cut = f"the log ends at {head.seq}, but it had {expected.seq} records: its end was cut off"
        return AuditVerdict(count, head, AuditProblem(head.seq + 1, "", cut))
    return AuditVerdict(count, head)


def digest(event: AuditEvent, previous: str) -> str:
    """The hash that a record must have after the one with the hash `previous`; both hex."""
    texts = (
        _VERSION,
        event.organization_id,
        str(event.seq),
        event.id,
        event.actor,
        event.on_behalf_of,
        event.action,
        event.resource,
        event.outcome,
        str(event.count),
        event.request_id,
        event.create_time.ToDatetime(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )
    encoded = b"".join(len(data).to_bytes(4, "big") + data for data in (text.encode() for text in texts))
    return hashlib.sha256(bytes.fromhex(previous) + encoded).hexdigest()


def _problem(event: AuditEvent, head: Mark, expected: Mark | None) -> AuditProblem | None:
    if event.seq > head.seq + 1:
        return AuditProblem(head.seq + 1, "", f"it is missing: after {head.seq} comes {event.seq}")
    if event.seq != head.seq + 1:
        return AuditProblem(event.seq, event.id, f"it is out of place: it comes after {head.seq}")
    if digest(event, head.hash) != event.hash:
        return AuditProblem(
            event.seq, event.id, "its content or the record before it was changed: the hash does not fit"
        )
    if expected is not None and event.seq == expected.seq and event.hash != expected.hash:
        return AuditProblem(event.seq, event.id, "the log was rewritten: the hash is not the one that was noted")
    return None
