"""Signing keys in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import asdict
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
            table.select()
            .where(sa.or_(table.c.retire_time.is_(None), table.c.retire_time > now))
            .order_by(table.c.create_time.desc(), table.c.key_id)
        )
        return [SigningKey(*row) for row in await self._session.execute(query)]
