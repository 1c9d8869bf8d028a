"""Things, for the chassis's own tests."""

import sqlalchemy as sa
from alembic import op

from chassis.audit.outbox import create_audit_outbox
from chassis.idempotency import create_request_ids
from chassis.migrations import enable_row_level_security

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates one tenant table, and what every service has."""
    op.create_table(
        "things",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False, unique=True),
    )
    enable_row_level_security(op, "things")
    create_request_ids(op)
    create_audit_outbox(op)
