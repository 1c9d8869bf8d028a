"""Agents, conversations, messages, runs, events, the tool ledger, steps and dispatches."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from chassis.idempotency import create_request_ids
from chassis.migrations import enable_row_level_security

revision = "0001"
down_revision = None

_TENANT_TABLES = ("agents", "conversations", "runs", "messages", "events", "tool_calls", "run_steps")


def upgrade() -> None:
    _agents()
    _conversations()
    _runs()
    _log()
    _steps()
    _dispatches()
    for table in _TENANT_TABLES:
        enable_row_level_security(op, table)
    create_request_ids(op)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("instructions", sa.Text, nullable=False),
        sa.Column("tool_ids", ARRAY(sa.Uuid), nullable=False),
        sa.Column("tags", ARRAY(sa.Text), nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("default_conversation_id", sa.Uuid, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        _time("create_time"),
        _time("update_time"),
        sa.UniqueConstraint("organization_id", "name", name="agents_name"),
    )
    op.create_index("agents_list", "agents", ["organization_id", "id"])


def _conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("agent_id", sa.Uuid, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False, server_default="1"),
        # The newest event, the newest message, and how far recall memory has the messages.
        sa.Column("head_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("message_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("indexed_seq", sa.BigInteger, nullable=False, server_default="0"),
        # Runs that have not ended, and the first seq of the one taken last: none before it is unfinished.
        sa.Column("open_runs", sa.Integer, nullable=False, server_default="0"),
        sa.Column("active_run_seq", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("lease_epoch", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("lease_owner", sa.Text),
        _time("lease_expire_time", nullable=True),
        _time("create_time"),
        _time("update_time"),
        # Several times a turn the row changes, never an indexed column: room for the new versions on the same page.
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index("conversations_list", "conversations", ["organization_id", "id"])
    op.create_index("conversations_of_agent", "conversations", ["agent_id", "id"])


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("agent_id", sa.Uuid, nullable=False),
        sa.Column("run_seq", sa.BigInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("stop_reason", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("error_reason", sa.Text),
        sa.Column("error_message", sa.Text),
        sa.Column("user_subject", sa.Text, nullable=False),
        sa.Column("request_id", sa.Uuid),
        sa.Column("body_hash", sa.LargeBinary, nullable=False),
        sa.Column("input_preview", sa.Text, nullable=False),
        # The assistant message to be written next, how often it was tried, and how often a worker took the run.
        sa.Column("next_message_id", sa.Uuid),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
        sa.Column("claims", sa.Integer, nullable=False, server_default="0"),
        sa.Column("steps", sa.Integer, nullable=False, server_default="0"),
        sa.Column("input_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("output_tokens", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cached_input_tokens", sa.BigInteger, nullable=False, server_default="0"),
        _time("create_time"),
        _time("start_time", nullable=True),
        _time("end_time", nullable=True),
        sa.UniqueConstraint("organization_id", "conversation_id", "request_id", name="runs_request_id"),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("runs_of_conversation", "runs", ["conversation_id", "run_seq"], unique=True)
    op.create_index("runs_list", "runs", ["organization_id", "id"])
    op.create_index("runs_of_agent", "runs", ["agent_id", "id"])


def _log() -> None:
    op.create_table(
        "messages",
        sa.Column("conversation_id", sa.Uuid, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("run_id", sa.Uuid, nullable=False),
        sa.Column("run_seq", sa.BigInteger, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        # Estimated tokens, so that a history can be cut without reading it.
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("content", JSON, nullable=False),
        _time("create_time"),
    )
    op.create_table(
        "events",
        sa.Column("conversation_id", sa.Uuid, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("run_id", sa.Uuid, nullable=False),
        # The lease epoch that it was written under; 0 for what no worker writes.
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("type", sa.SmallInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def _steps() -> None:
    op.create_table(
        "tool_calls",
        sa.Column("run_id", sa.Uuid, primary_key=True),
        sa.Column("tool_call_id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("repeatable", sa.Boolean, nullable=False),
        sa.Column("outcome", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        _time("start_time"),
        _time("end_time", nullable=True),
        sa.Column("duration_ms", sa.BigInteger),
    )
    op.create_index("tool_calls_of_conversation", "tool_calls", ["conversation_id"])
    op.create_table(
        "run_steps",
        sa.Column("run_id", sa.Uuid, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("conversation_id", sa.Uuid, nullable=False),
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("system_text", sa.Text, nullable=False),
        sa.Column("recalled_text", sa.Text, nullable=False),
        sa.Column("from_run_seq", sa.BigInteger, nullable=False),
        sa.Column("from_seq", sa.BigInteger, nullable=False),
        sa.Column("through_seq", sa.BigInteger, nullable=False),
        sa.Column("pinned_seq", sa.BigInteger, nullable=False),
        sa.Column("tool_names", ARRAY(sa.Text), nullable=False),
        sa.Column("estimated_tokens", sa.Integer, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger, nullable=False),
    )


def _dispatches() -> None:
    """Without row-level security, since the sweep serves all organizations: it holds ids and a time, nothing else."""
    op.create_table(
        "dispatches",
        sa.Column("conversation_id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        _time("due_time"),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "1000",
        },
    )
    op.create_index("dispatches_due", "dispatches", ["due_time"])
