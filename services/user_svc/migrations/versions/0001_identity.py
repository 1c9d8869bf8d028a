"""Organizations, users, API keys, signing keys.

Two things need care under forced row-level security.

An API key comes in before it is known whose it is. So `api_key_index` maps the hash of its secret to the organization and
the key, has no policy and no other content; with the organization found there, set for the transaction, the key itself is
read under the policy of every tenant table. A revoked key has no row in the index.

Platform administrators see all organizations. Their transactions say so: `hearth.platform` is set to `on` for the
transaction, which a second policy on `organizations`, and on no other table, honours.
"""

import sqlalchemy as sa
from alembic import op

from chassis.idempotency import create_request_ids
from chassis.migrations import enable_row_level_security

revision = "0001"
down_revision = None


def _moment(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Creates everything."""
    _organizations()
    _users()
    _api_keys()
    op.create_table(
        "signing_keys",
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("sealed_private_key", sa.LargeBinary, nullable=False),
        _moment("create_time"),
        _moment("retire_time", nullable=True),
    )
    create_request_ids(op)


def _organizations() -> None:
    op.create_table(
        "organizations",
        sa.Column("id", sa.Uuid, primary_key=True),
        # Its own id again, so that it is guarded by the same rule as all that belongs to it.
        sa.Column("organization_id", sa.Uuid, sa.Computed("id", persisted=True), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        _moment("create_time"),
        _moment("update_time"),
        _moment("delete_time", nullable=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "organizations_name", "organizations", ["name"], unique=True, postgresql_where="delete_time IS NULL"
    )
    enable_row_level_security(op, "organizations")
    rule = "current_setting('hearth.platform', true) = 'on'"
    op.execute(f"CREATE POLICY organizations_platform ON organizations USING ({rule}) WITH CHECK ({rule})")


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        _moment("create_time"),
        _moment("update_time"),
        _moment("delete_time", nullable=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "users_name", "users", ["organization_id", "name"], unique=True, postgresql_where="delete_time IS NULL"
    )
    op.create_index(
        "users_email",
        "users",
        ["organization_id", sa.text("lower(email)")],
        unique=True,
        postgresql_where="delete_time IS NULL AND email <> ''",
    )
    op.create_index("users_page", "users", ["organization_id", "id"])
    enable_row_level_security(op, "users")


def _api_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False, unique=True),
        _moment("create_time"),
        _moment("expire_time", nullable=True),
        _moment("revoke_time", nullable=True),
    )
    op.create_index("api_keys_page", "api_keys", ["organization_id", "id"])
    op.create_index("api_keys_user", "api_keys", ["user_id", "id"])
    enable_row_level_security(op, "api_keys")
    op.create_table(
        "api_key_index",
        sa.Column("secret_hash", sa.LargeBinary, primary_key=True),
        sa.Column("organization_id", sa.Uuid, nullable=False),
        sa.Column("key_id", sa.Uuid, nullable=False, unique=True),
    )
