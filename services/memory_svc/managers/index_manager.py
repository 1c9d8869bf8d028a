"""Looks after the index: how far it is behind, whether it says what the rows say, and making it anew."""

import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass

from memory_svc.domain.chunking import chunks
from memory_svc.domain.consistency import consistency_token
from memory_svc.domain.search import MemoryKind
from memory_svc.interfaces.embedder import Embedder
from memory_svc.interfaces.indexing import IndexProgress
from memory_svc.interfaces.unit_of_work import UnitOfWork
from memory_svc.interfaces.vector_index import IndexedPoint, VectorIndex, point_id
from memory_svc.managers.index_documents import MOST_MESSAGE_CHUNKS

_PAGE = 500


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """How far the index is behind for one organization, and what it is made with."""

    waiting: int
    lag_s: float
    model: str
    dimensions: int
    filled: bool


@dataclass(slots=True)
class Differences:
    """Counts of a comparison so far."""

    points: int = 0
    items: int = 0
    orphaned: int = 0
    stale: int = 0
    missing: int = 0


class IndexManager:
    """Compares rows and points and repairs the points. Rows are never changed."""

    def __init__(self, work: UnitOfWork, index: VectorIndex, embedder: Embedder, progress: IndexProgress) -> None:
        self._work = work
        self._index = index
        self._embedder = embedder
        self._progress = progress

    async def status(self, organization_id: uuid.UUID) -> IndexStatus:
        """How far the index is behind."""
        async with self._work.begin(None) as transaction:
            waiting, lag_s = await transaction.outbox.waiting(organization_id)
        return IndexStatus(waiting, lag_s, self._embedder.model, self._embedder.dimensions, self._progress.is_filled)

    async def reindex(self, organization_id: uuid.UUID) -> tuple[int, str]:
        """Queues everything of the organization. Returns how much, and the token of the last."""
        async with self._work.begin(organization_id) as transaction:
            queued = await transaction.outbox.enqueue_everything(organization_id)
            position = await transaction.outbox.newest_position(organization_id)
        self._progress.poke()
        return queued, consistency_token(position)

    async def reconcile(self, organization_id: uuid.UUID, *, repair: bool) -> AsyncIterator[Differences]:
        """Compares in both directions, page by page, and yields the counts so far after each; at least once."""
        found = Differences()
        after: uuid.UUID | None = None
        while True:
            points, after = await self._index.scan(organization_id, after, _PAGE)
            found.points += len(points)
            for kind in MemoryKind:
                mine = {point.point_id: point for point in points if point.kind is kind}
                await self._check_points(organization_id, kind, mine, found, repair=repair)
            yield found
            if after is None:
                break
        for kind in MemoryKind:
            last: uuid.UUID | None = None
            while ids := await self._page(organization_id, kind, last):
                last = ids[-1]
                page = await self._settled_texts(organization_id, kind, ids)
                found.items += len(page)
                await self._check_items(organization_id, kind, page, found, repair=repair)
                yield found
        if repair:
            self._progress.poke()

    async def _check_points(
        self,
        organization_id: uuid.UUID,
        kind: MemoryKind,
        points: dict[uuid.UUID, IndexedPoint],
        found: Differences,
        *,
        repair: bool,
    ) -> None:
        items = {point.reference.item_id for point in points.values()}
        versions, waiting = await self._rows(organization_id, kind, items)
        differing = {
            key
            for key, point in points.items()
            if point.reference.item_id not in waiting
            and versions.get(point.reference.item_id) != point.reference.version
        }
        # What was put right between reading the points and the rows is no difference.
        now = await self._index.resolve(differing)
        orphaned = {key for key, reference in now.items() if reference.item_id not in versions}
        stale = {
            reference.item_id
            for reference in now.values()
            if reference.item_id in versions and reference.version < versions[reference.item_id]
        }
        found.orphaned += len(orphaned)
        found.stale += len(stale)
        if repair:
            await self._index.delete_points(orphaned)
            await self._queue(organization_id, kind, stale)

    async def _check_items(
        self,
        organization_id: uuid.UUID,
        kind: MemoryKind,
        page: dict[uuid.UUID, str],
        found: Differences,
        *,
        repair: bool,
    ) -> None:
        # Chunks are written together, so an item whose last one is there has all.
        last = {
            point_id(organization_id, item_id, _chunk_count(kind, text) - 1): item_id for item_id, text in page.items()
        }
        there = await self._index.resolve(last.keys())
        missing = {item_id for key, item_id in last.items() if key not in there}
        found.missing += len(missing)
        if repair:
            await self._queue(organization_id, kind, missing)

    async def _rows(
        self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Collection[uuid.UUID]
    ) -> tuple[dict[uuid.UUID, int], set[uuid.UUID]]:
        """The versions of the items that are there, and which of all wait for the index."""
        async with self._work.begin(organization_id) as transaction:
            shelf = transaction.passages if kind is MemoryKind.PASSAGE else transaction.messages
            rows = await shelf.for_index(item_ids)
            waiting = await transaction.outbox.waiting_items(organization_id, kind, item_ids)
        return {item_id: row.version for item_id, row in rows.items()}, waiting

    async def _page(self, organization_id: uuid.UUID, kind: MemoryKind, after: uuid.UUID | None) -> Sequence[uuid.UUID]:
        async with self._work.begin(organization_id) as transaction:
            return await transaction.outbox.item_ids(organization_id, kind, after, _PAGE)

    async def _settled_texts(
        self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Collection[uuid.UUID]
    ) -> dict[uuid.UUID, str]:
        """The texts of the items that should be in the index by now."""
        async with self._work.begin(organization_id) as transaction:
            waiting = await transaction.outbox.waiting_items(organization_id, kind, item_ids)
            settled = [item_id for item_id in item_ids if item_id not in waiting]
            shelf = transaction.passages if kind is MemoryKind.PASSAGE else transaction.messages
            return {item_id: row.ranked_text for item_id, row in (await shelf.for_index(settled)).items()}

    async def _queue(self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Collection[uuid.UUID]) -> None:
        if item_ids:
            async with self._work.begin(organization_id) as transaction:
                await transaction.outbox.enqueue(organization_id, kind, list(item_ids))


def _chunk_count(kind: MemoryKind, text: str) -> int:
    count = len(chunks(text))
    return count if kind is MemoryKind.PASSAGE else min(count, MOST_MESSAGE_CHUNKS)
