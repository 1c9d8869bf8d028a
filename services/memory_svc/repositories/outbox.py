"""The outbox: which items' places in the vector index must be looked after. Written with the rows, read by the applier."""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from memory_svc.domain.search import MemoryKind
from memory_svc.interfaces.repositories import OutboxEntry
from memory_svc.repositories.tables import index_collections, memory_organizations, messages, outbox, passages


class SqlOutbox:
    """An Outbox inside one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def claim(self, size: int) -> list[OutboxEntry]:
        query = (
            sa.select(outbox)
            .where(outbox.c.due_time <= sa.func.now())
            .order_by(outbox.c.due_time, outbox.c.id)
            .limit(size)
            .with_for_update(skip_locked=True)
        )
        rows = await self._session.execute(query)
        return [OutboxEntry(row.id, row.organization_id, MemoryKind(row.kind), row.item_id) for row in rows]

    async def has_waiting(self) -> bool:
        return bool(
            (await self._session.execute(sa.select(sa.exists().where(outbox.c.expiry.is_(False))))).scalar_one()
        )

    async def remove(self, entry_ids: Collection[int]) -> None:
        await self._session.execute(outbox.delete().where(outbox.c.id.in_(list(entry_ids))))

    async def postpone(self, entry_ids: Collection[int], until: datetime) -> None:
        await self._session.execute(outbox.update().where(outbox.c.id.in_(list(entry_ids))).values(due_time=until))

    async def is_applied(self, organization_id: uuid.UUID, position: int) -> bool:
        waiting = sa.exists().where(
            outbox.c.organization_id == organization_id, outbox.c.id <= position, outbox.c.expiry.is_(False)
        )
        return not (await self._session.execute(sa.select(waiting))).scalar_one()

    async def organizations(self) -> list[uuid.UUID]:
        return list((await self._session.execute(sa.select(memory_organizations.c.organization_id))).scalars())

    async def enqueue_everything(self, organization_id: uuid.UUID) -> int:
        count = 0
        for kind, table in ((MemoryKind.PASSAGE, passages), (MemoryKind.MESSAGE, messages)):
            mine = sa.select(
                table.c.organization_id, sa.literal(kind.value), table.c.id, sa.func.now(), sa.false()
            ).where(table.c.organization_id == organization_id, table.c.delete_time.is_(None))
            columns = ["organization_id", "kind", "item_id", "due_time", "expiry"]
            added = outbox.insert().from_select(columns, mine).returning(outbox.c.id)
            count += len((await self._session.execute(added)).all())
        return count

    async def is_filled(self, collection: str) -> bool:
        query = sa.select(index_collections.c.filled).where(index_collections.c.name == collection)
        return bool((await self._session.execute(query)).scalar_one_or_none())

    async def set_filled(self, collection: str, filled: bool) -> None:
        row = insert(index_collections).values(name=collection, filled=filled)
        key = [index_collections.c.name]
        await self._session.execute(row.on_conflict_do_update(index_elements=key, set_={"filled": filled}))
        if filled:
            others = index_collections.update().where(index_collections.c.name != collection)
            await self._session.execute(others.values(filled=False))

    async def enqueue(self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Sequence[uuid.UUID]) -> None:
        await enqueue(self._session, organization_id, kind, item_ids)

    async def newest_position(self, organization_id: uuid.UUID | None) -> int:
        return await newest_position(self._session, organization_id)

    async def is_drained(self, position: int) -> bool:
        left = sa.exists().where(
            outbox.c.id <= position, outbox.c.expiry.is_(False), outbox.c.due_time <= sa.func.now()
        )
        return not (await self._session.execute(sa.select(left))).scalar_one()

    async def waiting(self, organization_id: uuid.UUID) -> tuple[int, float]:
        age = sa.func.extract("epoch", sa.func.now() - sa.func.min(outbox.c.due_time))
        query = sa.select(sa.func.count(), age).where(
            outbox.c.organization_id == organization_id, outbox.c.expiry.is_(False)
        )
        count, oldest_s = (await self._session.execute(query)).one()
        return count, max(0.0, float(oldest_s or 0.0))

    async def waiting_items(
        self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Collection[uuid.UUID]
    ) -> set[uuid.UUID]:
        # An expiry that is due is work that waits, too.
        query = sa.select(outbox.c.item_id).where(
            outbox.c.organization_id == organization_id,
            outbox.c.kind == kind.value,
            outbox.c.item_id.in_(list(item_ids)),
            outbox.c.expiry.is_(False) | (outbox.c.due_time <= sa.func.now()),
        )
        return set((await self._session.execute(query)).scalars()) if item_ids else set()

    async def item_ids(
        self, organization_id: uuid.UUID, kind: MemoryKind, after: uuid.UUID | None, size: int
    ) -> Sequence[uuid.UUID]:
        table = passages if kind is MemoryKind.PASSAGE else messages
        query = sa.select(table.c.id).where(table.c.organization_id == organization_id, table.c.delete_time.is_(None))
        if after is not None:
            query = query.where(table.c.id > after)
        return list((await self._session.execute(query.order_by(table.c.id).limit(size))).scalars())

    async def count_items(self, organization_id: uuid.UUID) -> int:
        total = 0
        for kind, table in ((MemoryKind.PASSAGE, passages), (MemoryKind.MESSAGE, messages)):
            waiting = sa.exists().where(
                outbox.c.organization_id == organization_id,
                outbox.c.kind == kind.value,
                outbox.c.item_id == table.c.id,
            )
            mine = (table.c.organization_id == organization_id, table.c.delete_time.is_(None), ~waiting)
            total += (
                await self._session.execute(sa.select(sa.func.count()).select_from(table).where(*mine))
            ).scalar_one()
        return total


async def enqueue(
    session: AsyncSession, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Sequence[uuid.UUID]
) -> None:
    """Adds an entry for each item, in the transaction that changes them."""
    if not item_ids:
        return
    known = insert(memory_organizations).values(organization_id=organization_id).on_conflict_do_nothing()
    await session.execute(known)
    items = sa.func.unnest(sa.cast(list(item_ids), sa.ARRAY(sa.Uuid))).column_valued("item_id")
    mine = sa.select(sa.literal(organization_id), sa.literal(kind.value), items, sa.func.now(), sa.false())
    await session.execute(
        outbox.insert().from_select(["organization_id", "kind", "item_id", "due_time", "expiry"], mine)
    )


async def enqueue_expiry(
    session: AsyncSession, organization_id: uuid.UUID, kind: MemoryKind, expiries: Sequence[tuple[uuid.UUID, datetime]]
) -> None:
    """Adds an entry that comes due when the item expires."""
    rows = [
        {
            "organization_id": organization_id,
            "kind": kind.value,
            "item_id": item_id,
            "due_time": due_time,
            "expiry": True,
        }
        for item_id, due_time in expiries
    ]
    if rows:
        await session.execute(outbox.insert(), rows)


async def newest_position(session: AsyncSession, organization_id: uuid.UUID | None) -> int:
    """The last entry of an organization or of all, 0 without any: once all up to it are gone, all so far is indexed."""
    query = sa.select(sa.func.max(outbox.c.id)).where(outbox.c.expiry.is_(False))
    if organization_id is not None:
        query = query.where(outbox.c.organization_id == organization_id)
    return (await session.execute(query)).scalar_one() or 0


def pending_items(organization_id: uuid.UUID, kind: MemoryKind) -> sa.Select[tuple[uuid.UUID]]:
    """The items of an organization that wait for the applier."""
    return sa.select(outbox.c.item_id).where(
        outbox.c.organization_id == organization_id, outbox.c.kind == kind.value, outbox.c.expiry.is_(False)
    )
