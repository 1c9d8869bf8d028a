"""The audit log in PostgreSQL. The service's role may add rows to `audit_events` and read them, and nothing else."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.audit import AuditRecord
from chassis.database import Database
from user_svc.domain.audit_event import GENESIS, AuditEvent, Head
from user_svc.interfaces.audit_log import AuditFilter, ChainBroken
from user_svc.repositories.tables import audit_events as table
from user_svc.repositories.tables import audit_heads as heads

_EQUAL = ("actor", "on_behalf_of", "action", "resource", "outcome", "request_id")


class PostgresAuditLog:
    """An AuditLog over one session."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def head(self) -> Head:
        row = (await self._session.execute(self._head())).first()
        return Head() if row is None else Head(row.seq, row.hash)

    async def lock_head(self) -> Head:
        row = (await self._session.execute(self._head().with_for_update())).first()
        if row is None:
            last = next(iter(await self.page(AuditFilter(), None, 1, oldest_first=False)), None)
            seq, hash_ = (0, GENESIS) if last is None else (last.seq, last.hash)
            first = insert(heads).values(organization_id=self._organization_id, seq=seq, hash=hash_)
            await self._session.execute(first.on_conflict_do_nothing())
            row = (await self._session.execute(self._head().with_for_update())).one()
        return Head(row.seq, row.hash)

    def _head(self) -> "sa.Select[Any, Any]":
        return sa.select(heads.c.seq, heads.c.hash).where(heads.c.organization_id == self._organization_id)

    async def known(self, record_ids: Sequence[UUID]) -> set[UUID]:
        query = sa.select(table.c.id).where(
            table.c.organization_id == self._organization_id, table.c.id.in_(record_ids)
        )
        return set((await self._session.execute(query)).scalars())

    async def append(self, events: Sequence[AuditEvent]) -> None:
        try:
            await self._session.execute(sa.insert(table), [_row(event) for event in events])
        except IntegrityError as error:
            raise ChainBroken from error
        last = events[-1]
        await self._session.execute(
            heads.update().where(heads.c.organization_id == self._organization_id).values(seq=last.seq, hash=last.hash)
        )

    async def at(self, seq: int) -> AuditEvent | None:
        query = sa.select(table).where(table.c.organization_id == self._organization_id, table.c.seq == seq)
        row = (await self._session.execute(query)).mappings().first()
        return None if row is None else _event(row)

    async def page(
        self, wanted: AuditFilter, after: int | None, limit: int, *, oldest_first: bool
    ) -> Sequence[AuditEvent]:
        query = sa.select(table).where(table.c.organization_id == self._organization_id)
        for name in _EQUAL:
            if value := getattr(wanted, name):
                query = query.where(table.c[name] == value)
        if wanted.from_time is not None:
            query = query.where(table.c.create_time >= wanted.from_time)
        if wanted.to_time is not None:
            query = query.where(table.c.create_time < wanted.to_time)
        if after is not None:
            query = query.where(table.c.seq > after if oldest_first else table.c.seq < after)
        query = query.order_by(table.c.seq if oldest_first else table.c.seq.desc()).limit(limit)
        return [_event(row) for row in (await self._session.execute(query)).mappings()]


class PostgresAuditLogs:
    """AuditLogs over user_svc's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def of(self, organization_id: UUID) -> AsyncGenerator[PostgresAuditLog]:
        async with self._database.transaction(organization_id) as session:
            yield PostgresAuditLog(session, organization_id)


def _row(event: AuditEvent) -> dict[str, Any]:
    record = event.record
    return {
        "organization_id": record.organization_id,
        "seq": event.seq,
        "id": record.id,
        "actor": record.actor,
        "on_behalf_of": record.on_behalf_of,
        "action": record.action,
        "resource": record.resource,
        "outcome": record.outcome,
        "count": record.count,
        "request_id": record.request_id,
        "create_time": record.create_time,
        "hash": event.hash,
    }


def _event(row: Any) -> AuditEvent:
    content = {name: value for name, value in row.items() if name not in ("seq", "hash")}
    return AuditEvent(row["seq"], AuditRecord(**content), row["hash"])
