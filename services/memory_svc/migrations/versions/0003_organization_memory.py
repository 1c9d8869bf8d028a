"""How many passages each organization has: what its limit is held against.

The row is locked from a change until the commit, after the rows of agents and by everybody in this order, so the number is exact.
"""

from alembic import op

from chassis.migrations import enable_row_level_security

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the table and counts what there is."""
    op.execute("""
        CREATE TABLE organization_memory (
            organization_id uuid PRIMARY KEY,
            passage_count bigint NOT NULL
        ) WITH (fillfactor = 50)
    """)
    # Forced row-level security would hide the numbers from their owner too.
    op.execute("ALTER TABLE agent_memory NO FORCE ROW LEVEL SECURITY")
    op.execute("""
        INSERT INTO organization_memory (organization_id, passage_count)
        SELECT organization_id, sum(passage_count) FROM agent_memory GROUP BY organization_id
    """)
    op.execute("ALTER TABLE agent_memory FORCE ROW LEVEL SECURITY")
    enable_row_level_security(op, "organization_memory")
