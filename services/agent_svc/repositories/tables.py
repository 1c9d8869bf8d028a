"""The tables as SQLAlchemy sees them, for the catalogue and for deletes. The hot path has its own statements (log_sql)."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON

metadata = sa.MetaData()


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True))


agents = sa.Table(
    "agents",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("name", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("instructions", sa.Text),
    sa.Column("tool_ids", ARRAY(sa.Uuid)),
    sa.Column("tags", ARRAY(sa.Text)),
    sa.Column("settings", JSON),
    sa.Column("metadata", JSON),
    sa.Column("tool_rules", JSON),
    sa.Column("default_conversation_id", sa.Uuid),
    sa.Column("version", sa.BigInteger),
    _time("create_time"),
    _time("update_time"),
)

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("agent_id", sa.Uuid),
    sa.Column("display_name", sa.Text),
    sa.Column("version", sa.BigInteger),
    sa.Column("head_seq", sa.BigInteger),
    sa.Column("message_seq", sa.BigInteger),
    sa.Column("indexed_seq", sa.BigInteger),
    _time("create_time"),
    _time("update_time"),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("conversation_id", sa.Uuid, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.Uuid),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("run_id", sa.Uuid),
    sa.Column("run_seq", sa.BigInteger),
    sa.Column("role", sa.SmallInteger),
    sa.Column("tokens", sa.Integer),
    sa.Column("content", JSON),
    _time("create_time"),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("agent_id", sa.Uuid),
    sa.Column("conversation_id", sa.Uuid),
    sa.Column("state", sa.SmallInteger),
    sa.Column("run_seq", sa.BigInteger),
    sa.Column("input_preview", sa.Text),
    _time("create_time"),
    sa.Column("stop_reason", sa.SmallInteger),
    sa.Column("error_reason", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.Column("cached_input_tokens", sa.BigInteger),
    sa.Column("steps", sa.Integer),
    _time("start_time"),
    _time("end_time"),
    sa.Column("user_subject", sa.Text),
)

run_counts = sa.Table(
    "run_counts",
    metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("user_subject", sa.Text, primary_key=True),
    sa.Column("open_runs", sa.BigInteger),
)

run_steps = sa.Table(
    "run_steps",
    metadata,
    sa.Column("run_id", sa.Uuid, primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("conversation_id", sa.Uuid),
    sa.Column("message_id", sa.Uuid),
    sa.Column("model", sa.Text),
    sa.Column("system_text", sa.Text),
    sa.Column("recalled_text", sa.Text),
    sa.Column("from_run_seq", sa.BigInteger),
    sa.Column("from_seq", sa.BigInteger),
    sa.Column("through_seq", sa.BigInteger),
    sa.Column("pinned_seq", sa.BigInteger),
    sa.Column("tool_names", ARRAY(sa.Text)),
    sa.Column("estimated_tokens", sa.Integer),
    sa.Column("input_tokens", sa.BigInteger),
    sa.Column("output_tokens", sa.BigInteger),
    sa.Column("cached_input_tokens", sa.BigInteger),
    sa.Column("section_tokens", ARRAY(sa.Integer)),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("conversation_id", sa.Uuid, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("run_id", sa.Uuid),
    sa.Column("epoch", sa.BigInteger),
    sa.Column("type", sa.SmallInteger),
    sa.Column("body", sa.LargeBinary),
)
tool_calls = sa.Table(
    "tool_calls", metadata, sa.Column("conversation_id", sa.Uuid), sa.Column("organization_id", sa.Uuid)
)
approvals = sa.Table(
    "approvals", metadata, sa.Column("conversation_id", sa.Uuid), sa.Column("organization_id", sa.Uuid)
)
dispatches = sa.Table(
    "dispatches",
    metadata,
    sa.Column("conversation_id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    _time("due_time"),
)

# Everything that belongs to a conversation, in the order in which it is deleted (the conversation itself last).
OF_CONVERSATION = (dispatches, approvals, tool_calls, run_steps, runs, messages, events)

templates = sa.Table(
    "templates",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("name", sa.Text),
    sa.Column("version", sa.Integer),
    _time("create_time"),
)

template_versions = sa.Table(
    "template_versions",
    metadata,
    sa.Column("template_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("description", sa.Text),
    sa.Column("document", sa.Text),
    sa.Column("variables", JSON),
    sa.Column("author", sa.Text),
    _time("create_time"),
)
