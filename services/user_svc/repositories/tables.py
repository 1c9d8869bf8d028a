"""The tables, as queries see them. Their definition is in migrations/."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

_metadata = sa.MetaData()


def _moment(name: str) -> "sa.Column[object]":
    return sa.Column(name, sa.DateTime(timezone=True))


organizations = sa.Table(
    "organizations",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("display_name", sa.Text),
    sa.Column("state", sa.SmallInteger),
    _moment("create_time"),
    _moment("update_time"),
    _moment("delete_time"),
    sa.Column("version", sa.BigInteger),
    sa.Column("limits", JSONB),
    sa.Column("limits_position", sa.BigInteger),
    _moment("purge_time"),
    _moment("purge_end_time"),
    sa.Column("purges", JSONB),
)

users = sa.Table(
    "users",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("name", sa.Text),
    sa.Column("display_name", sa.Text),
    sa.Column("email", sa.Text),
    sa.Column("role", sa.SmallInteger),
    sa.Column("disabled", sa.Boolean),
    _moment("create_time"),
    _moment("update_time"),
    _moment("delete_time"),
    sa.Column("version", sa.BigInteger),
    sa.Column("external_issuer", sa.Text),
    sa.Column("external_subject", sa.Text),
)

api_keys = sa.Table(
    "api_keys",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("user_id", sa.Uuid),
    sa.Column("display_name", sa.Text),
    sa.Column("hint", sa.Text),
    sa.Column("secret_hash", sa.LargeBinary),
    _moment("create_time"),
    _moment("expire_time"),
    _moment("revoke_time"),
    sa.Column("scopes", sa.ARRAY(sa.Text)),
)

api_key_uses = sa.Table(
    "api_key_uses",
    _metadata,
    sa.Column("key_id", sa.Uuid, primary_key=True),
    _moment("last_used_time"),
)

api_key_index = sa.Table(
    "api_key_index",
    _metadata,
    sa.Column("secret_hash", sa.LargeBinary, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("key_id", sa.Uuid),
)

trusted_issuers = sa.Table(
    "trusted_issuers",
    _metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("organization_id", sa.Uuid),
    sa.Column("display_name", sa.Text),
    sa.Column("issuer", sa.Text),
    sa.Column("audience", sa.Text),
    sa.Column("claim_name", sa.Text),
    sa.Column("claim_value", sa.Text),
    sa.Column("role_claim", sa.Text),
    sa.Column("role_mappings", sa.JSON),
    sa.Column("default_role", sa.SmallInteger),
    sa.Column("scopes", sa.ARRAY(sa.Text)),
    sa.Column("state", sa.SmallInteger),
    _moment("create_time"),
    _moment("update_time"),
    _moment("delete_time"),
    sa.Column("version", sa.BigInteger),
)

signing_keys = sa.Table(
    "signing_keys",
    _metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("public_key", sa.LargeBinary),
    sa.Column("sealed_private_key", sa.LargeBinary),
    _moment("create_time"),
    _moment("retire_time"),
    _moment("activate_time"),
)

revocations = sa.Table(
    "revocations",
    _metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger),
    _moment("void_before"),
    _moment("expire_time"),
)

audit_events = sa.Table(
    "audit_events",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("id", sa.Uuid),
    sa.Column("actor", sa.Text),
    sa.Column("on_behalf_of", sa.Text),
    sa.Column("action", sa.Text),
    sa.Column("resource", sa.Text),
    sa.Column("outcome", sa.Text),
    sa.Column("count", sa.BigInteger),
    sa.Column("request_id", sa.Text),
    _moment("create_time"),
    sa.Column("hash", sa.LargeBinary),
)

audit_heads = sa.Table(
    "audit_heads",
    _metadata,
    sa.Column("organization_id", sa.Uuid, primary_key=True),
    sa.Column("seq", sa.BigInteger),
    sa.Column("hash", sa.LargeBinary),
)
