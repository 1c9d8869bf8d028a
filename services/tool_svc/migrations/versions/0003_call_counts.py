"""How many calls each organization made in this minute and in the one before: what its limit is held against."""

import sqlalchemy as sa
from alembic import op

from chassis.migrations import enable_row_level_security

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "call_counts",
        sa.Column("organization_id", sa.Uuid, primary_key=True),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("calls_before", sa.BigInteger, nullable=False),
        postgresql_with={"fillfactor": "50"},
    )
    enable_row_level_security(op, "call_counts")
