"""A service's outbox of audit records: each stays here until user_svc has it in the chain."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa

from chassis.audit.record import OPEN, AuditRecord
from chassis.audit.statements import CLAIM, COMPLETE, PUT, RELEASE, RELEASE_ALL, REMOVE, values_of
from chassis.database import Database
from chassis.migrations import Operations, enable_row_level_security

# How many records one message carries.
BATCH = 200
# Longer than any call that is recorded ahead may take.
_HOLD_S = 1800.0


class Outbox:
    """The table of one service's database. Each method is one round trip and may be repeated without harm."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, record: AuditRecord) -> None:
        """Keeps a record that no transaction of its call held."""
        hold_s = _HOLD_S if record.outcome == OPEN else 0.0
        await self._database.run(record.organization_id, PUT, {**values_of(record), "hold_s": hold_s})

    async def complete(self, record: AuditRecord) -> None:
        """Says how the call of a record that was written ahead has ended."""
        await self._database.run(record.organization_id, COMPLETE, values_of(record))

    async def claim(self) -> list[AuditRecord]:
        """Some records that are due, oldest first. They are not due again for a while."""
        rows = await self._database.run(None, CLAIM, {"limit": BATCH})
        return sorted((AuditRecord(**row) for row in rows), key=lambda record: record.id)

    async def release(self, records: Sequence[AuditRecord]) -> None:
        """These could not be sent: soon again."""
        await self._database.run(None, RELEASE, {"ids": [record.id for record in records]})

    async def release_all(self) -> None:
        """What was sent may be lost: all again."""
        await self._database.run(None, RELEASE_ALL, {})

    async def remove(self, ids: Sequence[UUID]) -> None:
        """These are in the chain."""
        await self._database.run(None, REMOVE, {"ids": list(ids)})


def create_audit_outbox(op: Operations) -> None:
    """Creates the table, with row-level security; a second policy is for transactions that say they are the relay's."""
    op.create_table(
        "audit_outbox",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("on_behalf_of", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_index("audit_outbox_due_time", "audit_outbox", ["due_time"])
    enable_row_level_security(op, "audit_outbox")
    rule = "current_setting('hearth.audit_relay', true) = 'on'"
    op.execute(f"CREATE POLICY audit_outbox_relay ON audit_outbox USING ({rule}) WITH CHECK ({rule})")
