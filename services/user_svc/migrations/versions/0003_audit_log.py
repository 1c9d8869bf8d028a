"""The audit log: each organization's chain of records and its head, and the outbox of this service's own.

`audit_events` is only ever added to. The service's role has no right to change rows, and no policy lets anybody do so: row-level security is forced on
the owner too. Rows are removed with an organization that has been deleted, and no other way: the policy looks.
"""

import sqlalchemy as sa
from alembic import op

from chassis.audit.outbox import create_audit_outbox

revision = "0003"
down_revision = "0002"

_TENANT = "organization_id = NULLIF(current_setting('hearth.organization_id', true), '')::uuid"

_DELETED = (
    "EXISTS (SELECT FROM organizations WHERE organizations.id = {table}.organization_id AND delete_time IS NOT NULL)"
)

# Whoever was granted rights on new tables keeps the others.
_REVOKE = """
DO $$
DECLARE role name;
BEGIN
    FOR role IN SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'audit_events' AND grantee <> current_user
    LOOP
        EXECUTE format('REVOKE UPDATE, TRUNCATE ON audit_events FROM %I', role);
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Creates everything."""
    create_audit_outbox(op)
    op.create_table(
        "audit_events",
        sa.Column("organization_id", sa.Uuid, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("on_behalf_of", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_index("audit_events_id", "audit_events", ["organization_id", "id"], unique=True)
    op.create_index("audit_events_actor", "audit_events", ["organization_id", "actor", "seq"])
    op.create_index("audit_events_action", "audit_events", ["organization_id", "action", "seq"])
    op.create_index("audit_events_resource", "audit_events", ["organization_id", "resource", "seq"])
    op.create_index("audit_events_time", "audit_events", ["organization_id", "create_time"])
    op.create_table(
        "audit_heads",
        sa.Column("organization_id", sa.Uuid, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    for table in ("audit_events", "audit_heads"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {table}_read ON {table} FOR SELECT USING ({_TENANT})")
        op.execute(f"CREATE POLICY {table}_append ON {table} FOR INSERT WITH CHECK ({_TENANT})")
        op.execute(
            f"CREATE POLICY {table}_purge ON {table} FOR DELETE USING ({_TENANT} AND {_DELETED.format(table=table)})"
        )
    op.execute(f"CREATE POLICY audit_heads_move ON audit_heads FOR UPDATE USING ({_TENANT}) WITH CHECK ({_TENANT})")
    op.execute(_REVOKE)
