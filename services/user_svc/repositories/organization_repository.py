"""Organizations in PostgreSQL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from user_svc.domain.limits import LimitsChange
from user_svc.domain.organization import Organization, OrganizationChange, OrganizationState
from user_svc.domain.purge import HOLDERS, OTHERS, OWN
from user_svc.repositories.constraints import name_taken
from user_svc.repositories.tables import organizations as table

_COLUMNS = [table.c[field.name] for field in fields(Organization)]
# Held until the commit, so that positions become visible in their order.
_IN_ORDER = sa.text("SELECT pg_advisory_xact_lock(hashtext('user_svc limits'))")
_NEXT = sa.text("nextval('limit_positions')")


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
        return await self._one(_all().where(table.c.id == organization_id).with_for_update())

    async def get_deleted(self, organization_id: UUID) -> Organization | None:
        return await self._one(_all().where(table.c.id == organization_id, table.c.delete_time.is_not(None)))

    async def named(self, name: str) -> Organization | None:
        return await self._one(_existing().where(table.c.name == name))

    async def page(self, after: UUID | None, limit: int) -> Sequence[Organization]:
        query = _existing().order_by(table.c.id).limit(limit)
        if after is not None:
            query = query.where(table.c.id > after)
        return [_from_row(row) for row in (await self._session.execute(query)).mappings()]

    async def change(self, organization_id: UUID, change: OrganizationChange) -> Organization:
        values = {name: value for name, value in asdict(change).items() if value is not None}
        if change.limits is not None:
            await self._session.execute(_IN_ORDER)
            values["limits_position"] = _NEXT
        return await self._update(organization_id, values)

    async def delete(self, organization_id: UUID, purge_time: datetime) -> None:
        gone = {"state": OrganizationState.DELETED, "delete_time": sa.func.now(), "purge_time": purge_time}
        await self._update(organization_id, gone)

    async def purge_from(self, organization_id: UUID, purge_time: datetime) -> None:
        await self._update(organization_id, {"purge_time": purge_time})

    async def limits_after(self, position: int, limit: int) -> Sequence[LimitsChange]:
        query = sa.select(table.c.id, table.c.limits, table.c.limits_position).where(table.c.limits_position > position)
        rows = await self._session.execute(query.order_by(table.c.limits_position).limit(limit))
        return [LimitsChange(row.id, row.limits, row.limits_position) for row in rows]

    async def to_purge(self, service: str, now: datetime, limit: int) -> Sequence[UUID]:
        # What is stated about the end lets the query use the index of what is left to purge.
        due = (table.c.purge_time <= now, table.c.purge_end_time.is_(None), sa.not_(table.c.purges.has_key(service)))
        query = sa.select(table.c.id).where(*due)
        if service == OWN:
            query = query.where(table.c.purges.has_all(sa.cast(list(OTHERS), sa.ARRAY(sa.Text))))
        return list((await self._session.execute(query.order_by(table.c.purge_time).limit(limit))).scalars())

    async def purged(self, organization: Organization, service: str, report: Mapping[str, Any], now: datetime) -> None:
        purges = {**organization.purges, service: report}
        values: dict[str, Any] = {"purges": purges}
        if all(holder in purges for holder in HOLDERS):
            # What stays are an id, a handle, times and counts.
            values |= {"purge_end_time": now, "display_name": "", "limits": {}, "limits_position": None}
        await self._update(organization.id, values)

    async def _update(self, organization_id: UUID, values: dict[str, Any]) -> Organization:
        values |= {"update_time": sa.func.now(), "version": table.c.version + 1}
        change = table.update().where(table.c.id == organization_id).values(values).returning(*_COLUMNS)
        return _from_row((await self._session.execute(change)).mappings().one())

    async def _one(self, query: sa.Select[Any]) -> Organization | None:
        row = (await self._session.execute(query)).mappings().one_or_none()
        return None if row is None else _from_row(row)


def _all() -> sa.Select[Any]:
    return sa.select(*_COLUMNS)


def _existing() -> sa.Select[Any]:
    return _all().where(table.c.delete_time.is_(None))


def _from_row(row: sa.RowMapping) -> Organization:
    values: dict[str, Any] = {**row, "state": OrganizationState(row["state"])}
    return Organization(**values)
