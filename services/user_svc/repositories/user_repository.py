"""Users in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.identity import Role
from user_svc.domain.user import User, UserChange
from user_svc.repositories.constraints import name_taken
from user_svc.repositories.tables import users as table


class PostgresUsers:
    """A UserRepository in one transaction, for one organization."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, user: User) -> None:
        try:
            await self._session.execute(table.insert().values(asdict(user)))
        except IntegrityError as error:
            raise name_taken(error) from error

    async def get(self, user_id: UUID) -> User | None:
        return await self._one(self._existing().where(table.c.id == user_id))

    async def get_for_update(self, user_id: UUID) -> User | None:
        return await self._one(self._all().where(table.c.id == user_id).with_for_update())

    async def get_for_share(self, user_id: UUID) -> User | None:
        return await self._one(self._existing().where(table.c.id == user_id).with_for_update(read=True))

    async def external(self, issuer: str, subject: str) -> User | None:
        who = table.c.external_issuer == issuer, table.c.external_subject == subject
        return await self._one(self._existing().where(*who))

    async def named(self, name: str) -> User | None:
        return await self._one(self._existing().where(table.c.name == name))

    async def page(self, after: UUID | None, limit: int) -> Sequence[User]:
        query = self._existing().order_by(table.c.id).limit(limit)
        if after is not None:
            query = query.where(table.c.id > after)
        return [_from_row(row) for row in (await self._session.execute(query)).mappings()]

    async def change(self, user_id: UUID, change: UserChange) -> User:
        values = {name: value for name, value in asdict(change).items() if value is not None}
        try:
            return await self._update(user_id, values)
        except IntegrityError as error:
            raise name_taken(error) from error

    async def delete(self, user_id: UUID) -> None:
        await self._update(user_id, {"delete_time": sa.func.now()})

    async def disable_all(self) -> None:
        mine = table.c.organization_id == self._organization_id
        values = {"disabled": True, "update_time": sa.func.now(), "version": table.c.version + 1}
        await self._session.execute(table.update().where(mine, table.c.disabled.is_(False)).values(values))

    async def _update(self, user_id: UUID, values: dict[str, Any]) -> User:
        values |= {"update_time": sa.func.now(), "version": table.c.version + 1}
        change = table.update().where(*self._is(user_id)).values(values).returning(table)
        return _from_row((await self._session.execute(change)).mappings().one())

    async def _one(self, query: sa.Select[Any]) -> User | None:
        row = (await self._session.execute(query)).mappings().one_or_none()
        return None if row is None else _from_row(row)

    def _all(self) -> sa.Select[Any]:
        return table.select().where(table.c.organization_id == self._organization_id)

    def _existing(self) -> sa.Select[Any]:
        return self._all().where(table.c.delete_time.is_(None))

    def _is(self, user_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return table.c.organization_id == self._organization_id, table.c.id == user_id


def _from_row(row: sa.RowMapping) -> User:
    values: dict[str, Any] = {**row, "role": Role(row["role"])}
    return User(**values)
