"""The audit log: each organization's chain of records and its head, and the outbox of this service's own.

`audit_events` is only ever added to. The service's role has no right to change or remove rows, and no policy lets anybody do so: row-level security is
forced on the owner too. The one exception is `purge_audit_events`, which removes the log of an organization that has been deleted, and no other:
it runs as the owner, whom one more policy lets remove rows of the organization that the transaction is set to.
"""

import sqlalchemy as sa
from alembic import op

from chassis.audit.outbox import create_audit_outbox
from chassis.migrations import enable_row_level_security

revision = "0003"
down_revision = "0002"

_TENANT = "organization_id = NULLIF(current_setting('hearth.organization_id', true), '')::uuid"

# Whoever was granted rights on new tables keeps those to read and to add.
_REVOKE = """
DO $$
DECLARE role name;
BEGIN
    FOR role IN SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'audit_events' AND grantee <> current_user
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON audit_events FROM %I', role);
        EXECUTE format('REVOKE DELETE, TRUNCATE ON audit_heads FROM %I', role);
        EXECUTE format('GRANT EXECUTE ON FUNCTION purge_audit_events(uuid) TO %I', role);
    END LOOP;
END $$
"""

_PURGE = """
CREATE FUNCTION purge_audit_events(deleted_organization_id uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE removed bigint;
BEGIN
    PERFORM set_config('hearth.organization_id', deleted_organization_id::text, true);
    IF NOT EXISTS (SELECT FROM public.organizations WHERE id = deleted_organization_id AND delete_time IS NOT NULL) THEN
        RAISE EXCEPTION 'the organization is not deleted' USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM public.audit_events WHERE organization_id = deleted_organization_id;
    GET DIAGNOSTICS removed = ROW_COUNT;
    DELETE FROM public.audit_heads WHERE organization_id = deleted_organization_id;
    RETURN removed;
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
    enable_row_level_security(op, "audit_heads")
    op.execute("ALTER TABLE audit_events ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE audit_events FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY audit_events_read ON audit_events FOR SELECT USING ({_TENANT})")
    op.execute(f"CREATE POLICY audit_events_append ON audit_events FOR INSERT WITH CHECK ({_TENANT})")
    op.execute(f"CREATE POLICY audit_events_purge ON audit_events FOR DELETE TO CURRENT_USER USING ({_TENANT})")
    op.execute(_PURGE)
    op.execute("REVOKE ALL ON FUNCTION purge_audit_events(uuid) FROM PUBLIC")
    op.execute(_REVOKE)
