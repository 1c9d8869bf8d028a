"""How far imports are, in PostgreSQL."""

import uuid
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from memory_svc.domain.passages import ImportProgress
from memory_svc.repositories.tables import passage_imports

# An import that rested this long is not resumed any more.
_KEPT = timedelta(days=30)


class SqlImports:
    """An ImportRepository inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: uuid.UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def begin(self, import_id: uuid.UUID, agent_id: uuid.UUID, now: datetime) -> ImportProgress:
        new = insert(passage_imports).values(
            organization_id=self._organization_id,
            id=import_id,
            agent_id=agent_id,
            stored_count=0,
            duplicate_count=0,
            update_time=now,
        )
        is_new = (await self._session.execute(new.on_conflict_do_nothing().returning(passage_imports.c.id))).first()
        if is_new:
            old = passage_imports.c.update_time < now - _KEPT
            mine = passage_imports.c.organization_id == self._organization_id
            await self._session.execute(passage_imports.delete().where(mine, old))
        row = (
            await self._session.execute(sa.select(passage_imports).where(*self._is(import_id)).with_for_update())
        ).one()
        return ImportProgress(row.id, row.agent_id, row.stored_count, row.duplicate_count)

    async def save(self, progress: ImportProgress, now: datetime) -> None:
        counts = {"stored_count": progress.stored_count, "duplicate_count": progress.duplicate_count}
        change = passage_imports.update().where(*self._is(progress.id)).values(**counts, update_time=now)
        await self._session.execute(change)

    def _is(self, import_id: uuid.UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return (passage_imports.c.organization_id == self._organization_id, passage_imports.c.id == import_id)
