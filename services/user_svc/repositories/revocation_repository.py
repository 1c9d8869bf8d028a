"""Revocations in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from user_svc.domain.revocation import REMEMBERED, Revocation, restored_from
from user_svc.repositories.tables import revocations as table

_COLUMNS = [table.c[field.name] for field in fields(Revocation)]
# Held until the commit, so that positions become visible in their order.
_IN_ORDER = sa.text("SELECT pg_advisory_xact_lock(hashtext('user_svc revocations'))")
_NEXT = sa.text("nextval('revocation_positions')")


class PostgresRevocations:
    """A RevocationRepository in one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def void(self, subject: str, now: datetime) -> None:
        await self._session.execute(_IN_ORDER)
        values = {"position": _NEXT, "void_before": None, "expire_time": now + REMEMBERED}
        record = insert(table).values(subject=subject, **values)
        await self._session.execute(record.on_conflict_do_update(index_elements=[table.c.subject], set_=values))
        await self._session.execute(table.delete().where(table.c.expire_time < now))

    async def restore(self, subject: str, now: datetime) -> None:
        await self._session.execute(_IN_ORDER)
        query = sa.select(table.c.expire_time).where(table.c.subject == subject, table.c.void_before.is_(None))
        expire_time = (await self._session.execute(query)).scalar_one_or_none()
        if expire_time is not None:
            good_from = restored_from(expire_time - REMEMBERED, now)
            change = table.update().where(table.c.subject == subject).values(position=_NEXT, void_before=good_from)
            await self._session.execute(change)

    async def after(self, position: int, limit: int, now: datetime) -> Sequence[Revocation]:
        query = sa.select(*_COLUMNS).where(table.c.position > position, table.c.expire_time > now)
        return [Revocation(*row) for row in await self._session.execute(query.order_by(table.c.position).limit(limit))]
