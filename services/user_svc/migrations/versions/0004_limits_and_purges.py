"""What organizations may use, and how far the removal of deleted ones has come.

Both are columns of the organization: limits are its own numbers by name; `purges` says for each service when it had nothing left and
what it removed. Positions of limits come from a sequence under a lock until the commit, as those of revocations do.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the columns. Organizations deleted before are purged as if they had been deleted now."""
    for name in ("limits", "purges"):
        op.add_column("organizations", sa.Column(name, JSONB, nullable=False, server_default="{}"))
    op.add_column("organizations", sa.Column("limits_position", sa.BigInteger, nullable=True))
    for name in ("purge_time", "purge_end_time"):
        op.add_column("organizations", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.execute("CREATE SEQUENCE limit_positions")
    op.create_index(
        "organizations_limits", "organizations", ["limits_position"], postgresql_where="limits_position IS NOT NULL"
    )
    op.create_index(
        "organizations_to_purge",
        "organizations",
        ["purge_time"],
        postgresql_where="purge_time IS NOT NULL AND purge_end_time IS NULL",
    )
    # Forced row-level security holds for the owner too; this transaction says that it works for the whole platform.
    op.execute("SELECT set_config('hearth.platform', 'on', true)")
    op.execute("UPDATE organizations SET purge_time = now() + interval '7 days' WHERE delete_time IS NOT NULL")
    op.execute("SELECT set_config('hearth.platform', '', true)")
