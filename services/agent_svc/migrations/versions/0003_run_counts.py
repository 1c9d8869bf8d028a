"""How many runs have not ended, of each organization and of each of its users: what limits are held against.

A row is locked from a run's start or end until the commit, so the numbers are exact whoever counts; the constraint refuses a start
that would go beyond the limit that it brought along.
"""

import sqlalchemy as sa
from alembic import op

from chassis.migrations import enable_row_level_security

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the table and counts what there is."""
    op.create_table(
        "run_counts",
        sa.Column("organization_id", sa.Uuid, primary_key=True),
        # Empty: the whole organization.
        sa.Column("user_subject", sa.Text(collation="C"), primary_key=True),
        sa.Column("open_runs", sa.BigInteger, nullable=False),
        # The limit at the last start.
        sa.Column("ceiling", sa.BigInteger, nullable=False),
        sa.CheckConstraint("open_runs <= ceiling", name="run_counts_ceiling"),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "1000",
        },
    )
    # Forced row-level security would hide the runs from their owner too.
    op.execute("ALTER TABLE runs NO FORCE ROW LEVEL SECURITY")
    op.execute("""
        INSERT INTO run_counts (organization_id, user_subject, open_runs, ceiling)
        SELECT organization_id, who, count(*), count(*)
        FROM runs CROSS JOIN LATERAL (SELECT '' UNION SELECT user_subject) AS counted (who)
        WHERE state IN (1, 2, 3) GROUP BY organization_id, who
    """)
    op.execute("ALTER TABLE runs FORCE ROW LEVEL SECURITY")
    enable_row_level_security(op, "run_counts")
