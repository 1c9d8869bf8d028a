"""The look-ups of every sign-in: plain SQL, one round trip each, under the same row-level security as everything else."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from chassis.database import Database
from chassis.identity import Role
from user_svc.domain.organization import Organization, OrganizationState
from user_svc.domain.token import KeyHolder
from user_svc.domain.trusted_issuer import TrustedIssuer
from user_svc.domain.user import User
from user_svc.repositories.trusted_issuer_repository import from_row

# First the organization of the key, from the index; then the rest, as that organization.
_HOLDER = """
SELECT set_config('hearth.organization_id', organization_id::text, true) FROM api_key_index WHERE secret_hash = %(hash)s;
SELECT k.organization_id, o.state, k.id AS key_id, k.expire_time, k.scopes, u.id AS user_id, u.role, u.disabled
FROM api_keys k JOIN users u ON u.id = k.user_id JOIN organizations o ON o.id = k.organization_id
WHERE k.secret_hash = %(hash)s AND k.revoke_time IS NULL AND u.delete_time IS NULL
"""

_ORGANIZATION = """
SELECT id, name, display_name, state, create_time, update_time, delete_time, version, limits
FROM organizations WHERE id = %(id)s AND delete_time IS NULL
"""

_BOTH = """
SELECT o.id AS o_id, o.name AS o_name, o.display_name AS o_display_name, o.state AS o_state,
  o.create_time AS o_create_time, o.update_time AS o_update_time, o.delete_time AS o_delete_time, o.version AS o_version,
  o.limits AS o_limits,
  u.id, u.organization_id, u.name, u.display_name, u.email, u.role, u.disabled,
  u.create_time, u.update_time, u.delete_time, u.version, u.external_issuer, u.external_subject
"""

_ACCOUNT: LiteralString = f"""{_BOTH} FROM users u JOIN organizations o ON o.id = u.organization_id
WHERE u.id = %(user_id)s AND o.id = %(organization_id)s AND u.delete_time IS NULL AND o.delete_time IS NULL
"""

_EXTERNAL_ACCOUNT: LiteralString = f"""{_BOTH} FROM organizations o LEFT JOIN users u ON u.organization_id = o.id
  AND u.external_issuer = %(issuer)s AND u.external_subject = %(subject)s AND u.delete_time IS NULL
WHERE o.id = %(organization_id)s AND o.delete_time IS NULL
"""

# Across organizations: see the migration.
_ISSUERS = """
SELECT set_config('hearth.issuers', 'on', true);
SELECT DISTINCT issuer FROM trusted_issuers WHERE delete_time IS NULL AND state = 1
"""

_TRUSTING = """
SELECT set_config('hearth.issuers', 'on', true);
SELECT * FROM trusted_issuers
WHERE issuer = %(issuer)s AND audience = ANY(%(audiences)s::text[]) AND delete_time IS NULL AND state = 1
"""


class PostgresDirectory:
    """A Directory over user_svc's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def holder_of(self, secret_hash: bytes) -> KeyHolder | None:
        rows = await self._database.read(None, _HOLDER, {"hash": secret_hash})
        if not rows:
            return None
        row = rows[0]
        return KeyHolder(
            organization_id=row["organization_id"],
            organization_active=row["state"] == OrganizationState.ACTIVE,
            key_id=row["key_id"],
            key_expire_time=row["expire_time"],
            key_scopes=None if row["scopes"] is None else frozenset(row["scopes"]),
            user_id=row["user_id"],
            user_role=Role(row["role"]),
            user_disabled=row["disabled"],
        )

    async def organization(self, organization_id: UUID) -> Organization | None:
        rows = await self._database.read(organization_id, _ORGANIZATION, {"id": organization_id})
        return _organization(rows[0]) if rows else None

    async def account(self, organization_id: UUID, user_id: UUID) -> tuple[Organization, User] | None:
        values = {"organization_id": organization_id, "user_id": user_id}
        rows = await self._database.read(organization_id, _ACCOUNT, values)
        if not rows:
            return None
        organization, user = _both(rows[0])
        return None if user is None else (organization, user)

    async def issuers(self) -> Collection[str]:
        return [str(row["issuer"]) for row in await self._database.read(None, _ISSUERS, {})]

    async def trusting(self, issuer: str, audiences: Sequence[str]) -> Sequence[TrustedIssuer]:
        values = {"issuer": issuer, "audiences": list(audiences)}
        return [from_row(row) for row in await self._database.read(None, _TRUSTING, values)]

    async def external_account(
        self, organization_id: UUID, issuer: str, subject: str
    ) -> tuple[Organization, User | None] | None:
        values = {"organization_id": organization_id, "issuer": issuer, "subject": subject}
        rows = await self._database.read(organization_id, _EXTERNAL_ACCOUNT, values)
        return _both(rows[0]) if rows else None


def _both(row: Mapping[str, Any]) -> tuple[Organization, User | None]:
    theirs = {name.removeprefix("o_"): value for name, value in row.items() if name.startswith("o_")}
    own = {name: value for name, value in row.items() if not name.startswith("o_")}
    if own["id"] is None:
        return _organization(theirs), None
    own["role"] = Role(own["role"])
    return _organization(theirs), User(**own)


def _organization(row: dict[str, Any]) -> Organization:
    row["state"] = OrganizationState(row["state"])
    return Organization(**row)
