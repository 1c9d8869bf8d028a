"""Trusted issuers in PostgreSQL."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.errors import AlreadyExists
from chassis.identity import Role
from user_svc.domain.trusted_issuer import RoleRule, TokenAddress, TrustedIssuer, TrustedIssuerState
from user_svc.repositories.tables import trusted_issuers as table

# See the migration: reading, and nothing else, across organizations.
_LOOK_ACROSS = sa.text("SELECT set_config('hearth.issuers', :whether, true)")


class PostgresTrustedIssuers:
    """A TrustedIssuerRepository in one transaction, for one organization."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, issuer: TrustedIssuer) -> None:
        try:
            await self._session.execute(table.insert().values(_to_row(issuer)))
        except IntegrityError as error:
            constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
            if constraint != "trusted_issuers_token":
                raise
            raise AlreadyExists("tokens like these lead to an organization already", reason="ISSUER_TAKEN") from error

    async def get(self, issuer_id: UUID) -> TrustedIssuer | None:
        return await self._one(self._existing().where(table.c.id == issuer_id))

    async def get_for_update(self, issuer_id: UUID) -> TrustedIssuer | None:
        return await self._one(self._all().where(table.c.id == issuer_id).with_for_update())

    async def page(self, after: UUID | None, limit: int) -> Sequence[TrustedIssuer]:
        query = self._existing().order_by(table.c.id).limit(limit)
        if after is not None:
            query = query.where(table.c.id > after)
        return [from_row(row) for row in (await self._session.execute(query)).mappings()]

    async def count(self) -> int:
        query = sa.select(sa.func.count()).select_from(self._existing().subquery())
        return (await self._session.execute(query)).scalar_one()

    async def addresses(self, issuer: str, audience: str) -> Sequence[TokenAddress]:
        query = sa.select(table.c.issuer, table.c.audience, table.c.claim_name, table.c.claim_value).where(
            table.c.issuer == issuer, table.c.audience == audience, table.c.delete_time.is_(None)
        )
        await self._session.execute(_LOOK_ACROSS, {"whether": "on"})
        found = [TokenAddress(*row) for row in await self._session.execute(query)]
        await self._session.execute(_LOOK_ACROSS, {"whether": "off"})
        return found

    async def change(self, issuer: TrustedIssuer) -> TrustedIssuer:
        values = _to_row(issuer)
        return await self._update(
            issuer.id,
            {
                name: values[name]
                for name in ("display_name", "role_claim", "role_mappings", "default_role", "scopes", "state")
            },
        )

    async def delete(self, issuer_id: UUID) -> None:
        await self._update(issuer_id, {"delete_time": sa.func.now()})

    async def delete_all(self) -> None:
        mine = table.c.organization_id == self._organization_id, table.c.delete_time.is_(None)
        await self._session.execute(table.update().where(*mine).values(delete_time=sa.func.now()))

    async def _update(self, issuer_id: UUID, values: dict[str, Any]) -> TrustedIssuer:
        values |= {"update_time": sa.func.now(), "version": table.c.version + 1}
        mine = table.c.organization_id == self._organization_id, table.c.id == issuer_id
        change = table.update().where(*mine).values(values).returning(table)
        return from_row((await self._session.execute(change)).mappings().one())

    async def _one(self, query: sa.Select[Any]) -> TrustedIssuer | None:
        row = (await self._session.execute(query)).mappings().one_or_none()
        return None if row is None else from_row(row)

    def _all(self) -> sa.Select[Any]:
        return table.select().where(table.c.organization_id == self._organization_id)

    def _existing(self) -> sa.Select[Any]:
        return self._all().where(table.c.delete_time.is_(None))


def _to_row(issuer: TrustedIssuer) -> dict[str, Any]:
    address, roles = issuer.address, issuer.roles
    return {
        "id": issuer.id,
        "organization_id": issuer.organization_id,
        "display_name": issuer.display_name,
        "issuer": address.issuer,
        "audience": address.audience,
        "claim_name": address.claim_name,
        "claim_value": address.claim_value,
        "role_claim": roles.claim,
        "role_mappings": [[value, role.value] for value, role in roles.mappings],
        "default_role": None if roles.default is None else roles.default.value,
        "scopes": None if issuer.scopes is None else sorted(issuer.scopes),
        "state": issuer.state.value,
        "create_time": issuer.create_time,
        "update_time": issuer.update_time,
        "delete_time": issuer.delete_time,
        "version": issuer.version,
    }


def from_row(row: Mapping[Any, Any]) -> TrustedIssuer:
    """One row of the table, whoever read it."""
    default = row["default_role"]
    return TrustedIssuer(
        id=row["id"],
        organization_id=row["organization_id"],
        display_name=row["display_name"],
        address=TokenAddress(row["issuer"], row["audience"], row["claim_name"], row["claim_value"]),
        roles=RoleRule(
            claim=row["role_claim"],
            mappings=tuple((str(value), Role(role)) for value, role in row["role_mappings"]),
            default=None if default is None else Role(default),
        ),
        scopes=None if row["scopes"] is None else frozenset(row["scopes"]),
        state=TrustedIssuerState(row["state"]),
        create_time=row["create_time"],
        update_time=row["update_time"],
        delete_time=row["delete_time"],
        version=row["version"],
    )
