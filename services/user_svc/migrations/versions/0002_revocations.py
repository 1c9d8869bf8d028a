"""Revocations, and signing keys that wait before they sign.

`revocations` holds ids and times only, of every organization together: other services read it as a whole. So it has no policy.
Positions come from a sequence that is drawn from under a lock held until the commit: whoever reads up to a position has seen
everything before it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates everything."""
    op.create_table(
        "revocations",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False, unique=True),
        sa.Column("void_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False),
    )
    op.execute("CREATE SEQUENCE revocation_positions")
    op.add_column("signing_keys", sa.Column("activate_time", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE signing_keys SET activate_time = create_time")
    op.alter_column("signing_keys", "activate_time", nullable=False)
