"""Blocks with history, passages, messages, and the outbox that keeps the vector index in step with them."""

from alembic import op

from chassis.idempotency import create_request_ids
from chassis.migrations import enable_row_level_security

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE blocks (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    label text NOT NULL,
    value text NOT NULL,
    description text NOT NULL,
    char_limit integer NOT NULL,
    read_only boolean NOT NULL,
    version integer NOT NULL,
    revision integer NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    CONSTRAINT blocks_within_limit CHECK (char_length(value) <= char_limit)
);
CREATE INDEX blocks_by_label ON blocks (organization_id, label, id);

CREATE TABLE block_versions (
    block_id uuid NOT NULL REFERENCES blocks (id) ON DELETE CASCADE,
    version integer NOT NULL,
    organization_id uuid NOT NULL,
    value text NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    diff text NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (block_id, version)
);

CREATE TABLE agent_blocks (
    organization_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    block_id uuid NOT NULL REFERENCES blocks (id) ON DELETE CASCADE,
    label text NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (organization_id, agent_id, block_id),
    CONSTRAINT agent_blocks_label UNIQUE (organization_id, agent_id, label)
);
CREATE INDEX agent_blocks_by_block ON agent_blocks (block_id);

CREATE TABLE passages (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    text text NOT NULL,
    tags text[] NOT NULL,
    metadata jsonb NOT NULL,
    valid_from timestamptz,
    valid_to timestamptz,
    expire_time timestamptz,
    source_message_ids text[] NOT NULL,
    near_duplicate_of uuid,
    content_hash bytea NOT NULL,
    version integer NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    delete_time timestamptz
);
CREATE UNIQUE INDEX passages_unique_text ON passages (organization_id, agent_id, content_hash) WHERE delete_time IS NULL;
CREATE INDEX passages_of_agent ON passages (organization_id, agent_id, id);
CREATE INDEX passages_of_organization ON passages (organization_id, id);
CREATE INDEX passages_words ON passages USING gin (to_tsvector('english', left(text, 100000)));

CREATE TABLE passage_versions (
    passage_id uuid NOT NULL REFERENCES passages (id) ON DELETE CASCADE,
    version integer NOT NULL,
    organization_id uuid NOT NULL,
    text text NOT NULL,
    tags text[] NOT NULL,
    metadata jsonb NOT NULL,
    author text NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (passage_id, version)
);

CREATE TABLE messages (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    agent_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL,
    role text NOT NULL,
    speaker text NOT NULL,
    text text NOT NULL,
    create_time timestamptz NOT NULL,
    delete_time timestamptz,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX messages_of_conversation ON messages (organization_id, conversation_id, seq);
CREATE INDEX messages_of_agent ON messages (organization_id, agent_id);
CREATE INDEX messages_words ON messages USING gin (to_tsvector('english', left(speaker || ': ' || text, 100000)));

CREATE TABLE agent_memory (
    organization_id uuid NOT NULL,
    agent_id uuid NOT NULL,
    passage_count bigint NOT NULL,
    message_count bigint NOT NULL,
    PRIMARY KEY (organization_id, agent_id)
);

CREATE TABLE forgotten (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    PRIMARY KEY (organization_id, id)
);
"""

# Read and written by background work for all organizations, so without row-level security; they hold ids only.
_SHARED = """
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id uuid NOT NULL,
    kind text NOT NULL,
    item_id uuid NOT NULL,
    due_time timestamptz NOT NULL DEFAULT now(),
    expiry boolean NOT NULL DEFAULT false
);
CREATE INDEX outbox_due ON outbox (due_time, id);
CREATE INDEX outbox_of_organization ON outbox (organization_id, kind, item_id);

CREATE TABLE memory_organizations (
    organization_id uuid PRIMARY KEY
);

CREATE TABLE index_collections (
    name text PRIMARY KEY,
    filled boolean NOT NULL
);
"""

_OWNED = (
    "blocks",
    "block_versions",
    "agent_blocks",
    "passages",
    "passage_versions",
    "messages",
    "agent_memory",
    "forgotten",
)


def upgrade() -> None:
    """Creates everything."""
    op.execute(_TABLES)
    for table in _OWNED:
        enable_row_level_security(op, table)
    op.execute(_SHARED)
    create_request_ids(op)
