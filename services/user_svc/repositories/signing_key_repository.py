"""Signing keys in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from user_svc.domain.token import SigningKey
from user_svc.repositories.tables import signing_keys as table


class PostgresSigningKeys:
    """A SigningKeyRepository in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, key: SigningKey) -> None:
        await self._session.execute(table.insert().values(asdict(key)))

    async def usable(self, now: datetime) -> Sequence[SigningKey]:
        query = (
            sa.select(*(table.c[field.name] for field in fields(SigningKey)))
            .where(sa.or_(table.c.retire_time.is_(None), table.c.retire_time > now))
            .order_by(table.c.create_time.desc(), table.c.key_id)
        )
        return [SigningKey(*row) for row in await self._session.execute(query)]

    async def retire(self, key_ids: Sequence[str], at: datetime) -> None:
        await self._session.execute(table.update().where(table.c.key_id.in_(key_ids)).values(retire_time=at))

    async def drop_retired(self, now: datetime) -> None:
        await self._session.execute(table.delete().where(table.c.retire_time < now))
