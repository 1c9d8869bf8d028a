"""MCP servers, and which of them a tool belongs to. A deleted server stays as a row: deleting twice is fine."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from chassis.migrations import enable_row_level_security

revision = "0005"
down_revision = "0004"


def _moment(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Creates the table, and the column that refers to it."""
    op.create_table(
        "mcp_servers",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        # Compared byte by byte: lists are in this order whatever the database's language.
        sa.Column("name", sa.Text(collation="C"), nullable=False),
        sa.Column("transport", sa.SmallInteger, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("command", ARRAY(sa.Text), nullable=False),
        # Header → name of a secret; never its value.
        sa.Column("header_secrets", JSONB, nullable=False),
        sa.Column("secrets", ARRAY(sa.Text), nullable=False),
        sa.Column("timeout_ms", sa.Integer, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        _moment("sync_time", nullable=True),
        sa.Column("sync_error", sa.Text, nullable=False),
        _moment("create_time"),
        _moment("update_time"),
        _moment("delete_time", nullable=True),
    )
    op.create_index(
        "mcp_servers_name",
        "mcp_servers",
        ["organization_id", "name"],
        unique=True,
        postgresql_where="delete_time IS NULL",
    )
    enable_row_level_security(op, "mcp_servers")
    op.add_column("tools", sa.Column("mcp_server_id", sa.Uuid, sa.ForeignKey("mcp_servers.id"), nullable=True))
    op.create_index(
        "tools_of_mcp_server",
        "tools",
        ["mcp_server_id"],
        postgresql_where="mcp_server_id IS NOT NULL AND delete_time IS NULL",
    )
