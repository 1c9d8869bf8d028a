"""Approvals, and conversations whose run waits for somebody outside: nobody takes them meanwhile."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from chassis.migrations import enable_row_level_security

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Creates the table and the column."""
    op.add_column("conversations", sa.Column("waiting", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "approvals",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("run_id", sa.Uuid, nullable=False),
        # What is asked: calls of this message, as this version of their tools would make them.
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("call_ids", ARRAY(sa.Text), nullable=False),
        sa.Column("tool_versions", ARRAY(sa.Integer), nullable=False),
        sa.Column("arguments_hash", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        # The answer, and whose; NULL while it is waited for.
        sa.Column("approved", sa.Boolean),
        sa.Column("reason", sa.Text),
        sa.Column("resolved_by", sa.Text),
        sa.Column("resolve_time", sa.DateTime(timezone=True)),
    )
    op.create_index("approvals_of_run", "approvals", ["run_id"])
    op.create_index("approvals_of_conversation", "approvals", ["conversation_id"])
    enable_row_level_security(op, "approvals")
