"""Sealed secrets in PostgreSQL."""

from collections.abc import Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from tool_svc.domain.secret import SealedSecret, Secret
from tool_svc.repositories.tables import secrets

_SHOWN = (secrets.c.id, secrets.c.organization_id, secrets.c.name, secrets.c.create_time, secrets.c.update_time)


class PostgresSecrets:
    """A SecretRepository in one transaction, for one organization."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def put(self, secret_id: UUID, sealed: SealedSecret) -> Secret:
        now = sa.func.clock_timestamp()
        value = {
            "key_id": sealed.key_id,
            "wrapped_key": sealed.wrapped_key,
            "sealed": sealed.sealed,
            "update_time": now,
        }
        row = {"id": secret_id, "organization_id": self._organization_id, "name": sealed.name, "create_time": now}
        statement = insert(secrets).values({**row, **value})
        statement = statement.on_conflict_do_update(index_elements=["organization_id", "name"], set_=value)
        found = (await self._session.execute(statement.returning(*_SHOWN))).mappings().one()
        return Secret(**found)

    async def page(self, after_name: str | None, limit: int) -> Sequence[Secret]:
        query = sa.select(*_SHOWN).where(secrets.c.organization_id == self._organization_id)
        if after_name is not None:
            query = query.where(secrets.c.name > after_name)
        rows = (await self._session.execute(query.order_by(secrets.c.name).limit(limit))).mappings()
        return [Secret(**row) for row in rows]

    async def delete(self, name: str) -> None:
        mine = (secrets.c.organization_id == self._organization_id, secrets.c.name == name)
        await self._session.execute(secrets.delete().where(*mine))
