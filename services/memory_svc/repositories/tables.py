"""The tables as SQLAlchemy Core sees them; `migrations/` creates them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

_metadata = sa.MetaData()


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True))


blocks = sa.Table(
    "blocks",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("label", sa.Text),
    sa.Column("value", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("char_limit", sa.Integer),
    sa.Column("read_only", sa.Boolean),
    sa.Column("version", sa.Integer),
    sa.Column("revision", sa.Integer),
    _time("create_time"),
    _time("update_time"),
)

block_versions = sa.Table(
    "block_versions",
    _metadata,
    sa.Column("block_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("value", sa.Text),
    sa.Column("author", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("diff", sa.Text),
    _time("create_time"),
)

agent_blocks = sa.Table(
    "agent_blocks",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("agent_id", sa.Uuid, primary_key=True),
    sa.Column("block_id", sa.Uuid, primary_key=True),
    sa.Column("label", sa.Text),
    sa.Column("position", sa.BigInteger, sa.Identity(always=True)),
)

passages = sa.Table(
    "passages",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("agent_id", sa.Uuid),
    sa.Column("text", sa.Text),
    sa.Column("tags", ARRAY(sa.Text)),
    sa.Column("metadata", JSONB),
    _time("valid_from"),
    _time("valid_to"),
    _time("expire_time"),
    sa.Column("source_message_ids", ARRAY(sa.Text)),
    sa.Column("near_duplicate_of", sa.Uuid),
    sa.Column("content_hash", sa.LargeBinary),
    sa.Column("sketch", ARRAY(sa.BigInteger)),
    sa.Column("version", sa.Integer),
    _time("create_time"),
    _time("update_time"),
    _time("delete_time"),
)

passage_imports = sa.Table(
    "passage_imports",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("agent_id", sa.Uuid),
    sa.Column("stored_count", sa.BigInteger),
    sa.Column("duplicate_count", sa.BigInteger),
    _time("update_time"),
)

passage_versions = sa.Table(
    "passage_versions",
    _metadata,
    sa.Column("passage_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("text", sa.Text),
    sa.Column("tags", ARRAY(sa.Text)),
    sa.Column("metadata", JSONB),
    sa.Column("author", sa.Text),
    _time("create_time"),
)

messages = sa.Table(
    "messages",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("agent_id", sa.Uuid),
    sa.Column("conversation_id", sa.Uuid),
    sa.Column("seq", sa.BigInteger),
    sa.Column("role", sa.Text),
    sa.Column("speaker", sa.Text),
    sa.Column("text", sa.Text),
    _time("create_time"),
    _time("delete_time"),
)

agent_memory = sa.Table(
    "agent_memory",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("agent_id", sa.Uuid, primary_key=True),
    sa.Column("passage_count", sa.BigInteger),
    sa.Column("message_count", sa.BigInteger),
)

forgotten = sa.Table(
    "forgotten",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("id", sa.Uuid, primary_key=True),
)

# The three below have no row-level security: they hold ids only.
outbox = sa.Table(
    "outbox",
    _metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("kind", sa.Text),
    sa.Column("item_id", sa.Uuid),
    _time("due_time"),
    # Due when the item expires; until then the item's place in the index is right.
    sa.Column("expiry", sa.Boolean),
)

memory_organizations = sa.Table(
    "memory_organizations", _metadata, sa.Column("organization_id", sa.Uuid, primary_key=True)
)

organization_memory = sa.Table(
    "organization_memory",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("passage_count", sa.BigInteger),
)

index_collections = sa.Table(
    "index_collections",
    _metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("filled", sa.Boolean),
)
