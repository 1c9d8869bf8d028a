"""Tool rules of agents; those made before have none."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("agents", sa.Column("tool_rules", JSON, nullable=False, server_default="[]"))
