"""Organizations in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from user_svc.domain.organization import Organization, OrganizationChange, OrganizationState
from user_svc.repositories.constraints import name_taken
from user_svc.repositories.tables import organizations as table


class PostgresOrganizations:
    """An OrganizationRepository in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, organization: Organization) -> None:
        try:
            await self._session.execute(table.insert().values(asdict(organization)))
        except IntegrityError as error:
            raise name_taken(error) from error

    async def get(self, organization_id: UUID) -> Organization | None:
        return await self._one(_existing().where(table.c.id == organization_id))

    async def get_for_share(self, organization_id: UUID) -> Organization | None:
        return await self._one(_existing().where(table.c.id == organization_id).with_for_update(read=True))

    async def get_for_update(self, organization_id: UUID) -> Organization | None:
        return await self._one(table.select().where(table.c.id == organization_id).with_for_update())

    async def named(self, name: str) -> Organization | None:
        return await self._one(_existing().where(table.c.name == name))

    async def page(self, after: UUID | None, limit: int) -> Sequence[Organization]:
        query = _existing().order_by(table.c.id).limit(limit)
        if after is not None:
            query = query.where(table.c.id > after)
        return [_from_row(row) for row in (await self._session.execute(query)).mappings()]

    async def change(self, organization_id: UUID, change: OrganizationChange) -> Organization:
        values = {name: value for name, value in asdict(change).items() if value is not None}
        return await self._update(organization_id, values)

    async def delete(self, organization_id: UUID) -> None:
        await self._update(organization_id, {"state": OrganizationState.DELETED, "delete_time": sa.func.now()})

    async def _update(self, organization_id: UUID, values: dict[str, Any]) -> Organization:
        values |= {"update_time": sa.func.now(), "version": table.c.version + 1}
        change = table.update().where(table.c.id == organization_id).values(values).returning(table)
        return _from_row((await self._session.execute(change)).mappings().one())

    async def _one(self, query: sa.Select[Any]) -> Organization | None:
        row = (await self._session.execute(query)).mappings().one_or_none()
        return None if row is None else _from_row(row)


def _existing() -> sa.Select[Any]:
    return table.select().where(table.c.delete_time.is_(None))


def _from_row(row: sa.RowMapping) -> Organization:
    values: dict[str, Any] = {**row, "state": OrganizationState(row["state"])}
    return Organization(**values)
