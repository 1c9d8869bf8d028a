"""Tools and their versions. A deleted tool stays as a row: its versions are what past runs called."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from chassis.idempotency import create_request_ids
from chassis.migrations import enable_row_level_security

revision = "0001"
down_revision = None


def _moment(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _content() -> list[sa.Column[object]]:
    return [
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("source_code", sa.Text, nullable=False),
        sa.Column("entry_point", sa.Text, nullable=False),
        sa.Column("parameters", JSONB, nullable=False),
        sa.Column("tags", ARRAY(sa.Text), nullable=False),
        sa.Column("settings", JSONB, nullable=False),
    ]


def upgrade() -> None:
    """Creates everything."""
    op.create_table(
        "tools",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        # Compared byte by byte: lists are in this order whatever the database's language.
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        *_content(),
        sa.Column("version", sa.Integer, nullable=False),
        _moment("create_time"),
        _moment("update_time"),
        _moment("delete_time", nullable=True),
    )
    op.create_index(
        "tools_name", "tools", ["organization_id", "name"], unique=True, postgresql_where="delete_time IS NULL"
    )
    enable_row_level_security(op, "tools")
    op.create_table(
        "tool_versions",
        sa.Column("tool_id", sa.Uuid, sa.ForeignKey("tools.id"), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        *_content(),
        sa.Column("author", sa.Text, nullable=False),
        _moment("create_time"),
        sa.PrimaryKeyConstraint("tool_id", "version"),
    )
    enable_row_level_security(op, "tool_versions")
    create_request_ids(op)
