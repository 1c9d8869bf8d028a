"""Where the audit log is kept."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from chassis.audit import AuditRecord
from user_svc.domain.audit_event import AuditEvent, Head


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records; what is empty or None does not matter."""

    actor: str = ""
    on_behalf_of: str = ""
    action: str = ""
    resource: str = ""
    outcome: str = ""
    request_id: str = ""
    from_time: datetime | None = None
    to_time: datetime | None = None


class ChainBroken(Exception):
    """An organization's log cannot go on: somebody has changed its head or its records."""


class AuditLog(Protocol):
    """The log of one organization, in one transaction. Nothing in it is ever changed or removed."""

    async def head(self) -> Head:
        """The last record that there was."""
        ...

    async def lock_head(self) -> Head:
        """The same; nobody else can append until the transaction ends."""
        ...

    async def known(self, record_ids: Sequence[UUID]) -> set[UUID]:
        """Which of these are in the log already."""
        ...

    async def append(self, events: Sequence[AuditEvent]) -> None:
        """Adds what continues the chain after the locked head. At least one. Raises ChainBroken."""
        ...

    async def at(self, seq: int) -> AuditEvent | None:
        """The record at a place."""
        ...

    async def page(
        self, wanted: AuditFilter, after: int | None, limit: int, *, oldest_first: bool
    ) -> Sequence[AuditEvent]:
        """Those that come after the one at a place, in the order asked for."""
        ...


class AuditLogs(Protocol):
    """Opens transactions, each over one organization's log."""

    def of(self, organization_id: UUID) -> AbstractAsyncContextManager[AuditLog]:
        """Commits when the block ends well."""
        ...


class AuditChain(Protocol):
    """Takes records from services."""

    async def append(self, records: Sequence[AuditRecord]) -> set[UUID]:
        """Appends those that are not there yet, each to its organization's log. Returns the ids of those that are there, committed: all
        but the records of an organization whose log is broken.
        """
        ...
