"""External identity providers that organizations trust, and users that came with their tokens.

A token comes in before it is known whose it is. So transactions that say `hearth.issuers = on` may read which organizations trust
the issuer of a token, by a second policy on `trusted_issuers`, and on no other table, that allows nothing but reading.
"""

import sqlalchemy as sa
from alembic import op

from chassis.migrations import enable_row_level_security

revision = "0006"
down_revision = "0005"


def _moment(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Users that are there were made here."""
    _trusted_issuers()
    for column in ("external_issuer", "external_subject"):
        op.add_column("users", sa.Column(column, sa.Text, nullable=False, server_default=""))
    op.create_index(
        "users_external",
        "users",
        ["organization_id", "external_issuer", "external_subject"],
        unique=True,
        postgresql_where="delete_time IS NULL AND external_issuer <> ''",
    )


def _trusted_issuers() -> None:
    op.create_table(
        "trusted_issuers",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("organization_id", sa.Uuid, sa.ForeignKey("organizations.id"), nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("audience", sa.Text, nullable=False),
        # Both empty where none is required.
        sa.Column("claim_name", sa.Text, nullable=False),
        sa.Column("claim_value", sa.Text, nullable=False),
        sa.Column("role_claim", sa.Text, nullable=False),
        sa.Column("role_mappings", sa.JSON, nullable=False),
        sa.Column("default_role", sa.SmallInteger, nullable=True),
        sa.Column("scopes", sa.ARRAY(sa.Text), nullable=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        _moment("create_time"),
        _moment("update_time"),
        _moment("delete_time", nullable=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    # Across organizations: a token leads to one of them.
    op.create_index(
        "trusted_issuers_token",
        "trusted_issuers",
        ["issuer", "audience", "claim_name", "claim_value"],
        unique=True,
        postgresql_where="delete_time IS NULL",
    )
    op.create_index("trusted_issuers_page", "trusted_issuers", ["organization_id", "id"])
    enable_row_level_security(op, "trusted_issuers")
    rule = "current_setting('hearth.issuers', true) = 'on'"
    op.execute(f"CREATE POLICY trusted_issuers_door ON trusted_issuers FOR SELECT USING ({rule})")
