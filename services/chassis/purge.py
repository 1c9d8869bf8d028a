"""Removing all that a service's database holds of organizations that are no more.

Which tables there are is read from the catalogue: every one with a column `organization_id` that the service may delete from. So a
table that a later migration adds is emptied too. Rows go as the service's own role with the organization set, under row-level
security, in batches that are transactions of their own; a process that dies in between begins again and finds less to do.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast
from uuid import UUID

import sqlalchemy as sa

from chassis import ids
from chassis.callcontext import set_call
from chassis.database import Database
from chassis.errors import DomainError
from chassis.identity import set_current
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

POLL_S = 5.0
_BATCH_ROWS = 1_000
# A table without an index on the column is read once from end to end, so many pages of 8 KiB at a time.
_BATCH_PAGES = 512
# Between batches, so that a large organization's end is not felt by the others.
_PAUSE_S = 0.01

_TABLES = sa.text("""
SELECT c.oid, c.relname, pg_relation_size(c.oid) / current_setting('block_size')::bigint AS pages,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indpred IS NULL) AS indexed,
    ARRAY(SELECT f.confrelid FROM pg_constraint f WHERE f.conrelid = c.oid AND f.contype = 'f' AND f.confrelid <> c.oid) AS parents
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'organization_id' AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND has_table_privilege(c.oid, 'DELETE')
ORDER BY c.relname
""")


class PurgeSource(Protocol):
    """Who says what must go, and hears when it has."""

    async def due(self) -> Sequence[UUID]:
        """Organizations of which this service has not reported the end. Raises DomainError."""
        ...

    async def report(self, organization_id: UUID, removed: Mapping[str, int]) -> None:
        """Nothing is left; `removed` counts by table. Raises DomainError."""
        ...


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    pages: int
    indexed: bool


# Removes what is no table's, as vectors and files are; returns how many there were. Is called when the rows are gone.
Removal = Callable[[UUID], Awaitable[int]]


class Purger:
    """Background work: asks every few seconds what must go, and removes it.

    `kept` names tables whose rows stay (they must be known as such to whoever checks that nothing stays); `others` removes what
    lies elsewhere, by the name under which it is counted.
    """

    def __init__(
        self,
        source: PurgeSource,
        database: Database,
        *,
        kept: Collection[str] = (),
        others: Mapping[str, Removal] | None = None,
        interval_s: float = POLL_S,
    ) -> None:
        self._source = source
        self._database = database
        # Records of what was done outlive whom it was done to.
        self._kept = frozenset((*kept, "audit_outbox"))
        self._others = dict(others or {})
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to ask; does not wait for an answer."""
        self._task = asyncio.create_task(self._run(), name="purge")

    async def stop(self) -> None:
        """Asks no more; what is under way is left as it is."""
        await end_task(self._task)

    async def _run(self) -> None:
        set_call(None)
        set_current(None)
        failing = False
        while True:
            try:
                for organization_id in await self._source.due():
                    removed = await self.purge(organization_id)
                    await self._source.report(organization_id, removed)
                    _log.info("purged", extra={"organization": ids.encode("org", organization_id), **_total(removed)})
                failing = False
            except Exception as error:
                if not failing:
                    unforeseen = None if isinstance(error, DomainError) else error
                    _log.warning("purging pauses; it goes on later", exc_info=unforeseen)
                failing = True
            await asyncio.sleep(self._interval_s)

    async def purge(self, organization_id: UUID) -> dict[str, int]:
        """Removes everything; ends when a look at every table found nothing more. Returns what there was, by table."""
        removed: Counter[str] = Counter()
        while found := await self._once(organization_id):
            removed.update(found)
        return dict(removed)

    async def _once(self, organization_id: UUID) -> Counter[str]:
        found: Counter[str] = Counter()
        for table in await self._tables():
            count = await self._empty(organization_id, table)
            if count:
                found[table.name] += count
        for name, remove in self._others.items():
            count = await remove(organization_id)
            if count:
                found[name] += count
        return found

    async def _tables(self) -> list[_Table]:
        """Whoever refers to others before those it refers to."""
        async with self._database.transaction(None) as session:
            rows = (await session.execute(_TABLES)).all()
        waiting = {row.oid: row for row in rows if row.relname not in self._kept}
        ordered: list[_Table] = []
        while waiting:
            parents = {parent for row in waiting.values() for parent in row.parents}
            free = [oid for oid in waiting if oid not in parents] or list(waiting)
            rows = [waiting.pop(oid) for oid in free]
            ordered += [_Table(row.relname, row.pages, row.indexed) for row in rows]
        return ordered

    async def _empty(self, organization_id: UUID, table: _Table) -> int:
        name = sa.quoted_name(table.name, quote=True)
        quoted = f'"{name}"'
        if not table.indexed:
            return await self._walk(organization_id, quoted, table.pages)
        statement = sa.text(
            f"DELETE FROM {quoted} WHERE organization_id = :organization AND ctid = ANY(ARRAY("  # noqa: S608
            f"SELECT ctid FROM {quoted} WHERE organization_id = :organization LIMIT {_BATCH_ROWS}))"
        )
        total = 0
        while count := await self._delete(organization_id, statement, {}):
            total += count
        return total

    async def _walk(self, organization_id: UUID, quoted: str, pages: int) -> int:
        statement = sa.text(
            f"DELETE FROM {quoted} WHERE organization_id = :organization "  # noqa: S608
            "AND ctid >= CAST(:first AS tid) AND ctid < CAST(:last AS tid)"
        )
        total = 0
        for page in range(0, pages, _BATCH_PAGES):
            area = {"first": f"({page},0)", "last": f"({page + _BATCH_PAGES},0)"}
            total += await self._delete(organization_id, statement, area)
        return total

    async def _delete(self, organization_id: UUID, statement: sa.TextClause, values: Mapping[str, str]) -> int:
        async with self._database.transaction(organization_id) as session:
            result = await session.execute(statement, {"organization": organization_id, **values})
            count = cast("sa.CursorResult[Any]", result).rowcount
        await asyncio.sleep(_PAUSE_S)
        return count


def _total(removed: Mapping[str, int]) -> dict[str, int]:
    return {"tables": len(removed), "rows": sum(removed.values())}
