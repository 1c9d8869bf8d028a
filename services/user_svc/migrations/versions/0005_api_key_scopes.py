"""API keys may be limited to scopes, and tell when they were last used.

`api_key_uses` holds ids and times only, of every organization together, so that one statement writes what all of them did. So it
has no policy. What it says goes with the key.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Keys that are there keep all that their user's role allows."""
    op.add_column("api_keys", sa.Column("scopes", sa.ARRAY(sa.Text), nullable=True))
    op.create_table(
        "api_key_uses",
        sa.Column("key_id", sa.Uuid, sa.ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("last_used_time", sa.DateTime(timezone=True), nullable=False),
    )
