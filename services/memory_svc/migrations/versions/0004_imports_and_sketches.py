"""How far imports of passages are, and sketches of texts by which near duplicates are found."""

from alembic import op

from chassis.migrations import enable_row_level_security

revision = "0004"
down_revision = "0003"

_CHANGES = """
CREATE TABLE passage_imports (
    organization_id uuid NOT NULL,
    id uuid NOT NULL,
    agent_id uuid NOT NULL,
    stored_count bigint NOT NULL,
    duplicate_count bigint NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX passage_imports_by_age ON passage_imports (organization_id, update_time);

ALTER TABLE passages ADD COLUMN sketch bigint[] NOT NULL DEFAULT '{}';
CREATE INDEX passages_by_sketch ON passages USING gin (sketch) WHERE delete_time IS NULL;
"""


def upgrade() -> None:
    """Texts that were there before have no sketch: near duplicates of them are not noticed."""
    op.execute(_CHANGES)
    enable_row_level_security(op, "passage_imports")
