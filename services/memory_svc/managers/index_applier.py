"""Keeps the vector index in step with Postgres: reads the outbox, embeds, and writes points, off every caller's path.

An entry leaves the outbox only after the index has its points, so a process killed at any moment repeats work and
never loses it. Points carry their row's version: repeating changes nothing.
"""

import asyncio
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from chassis.errors import Unavailable
from chassis.tasks import end_task
from memory_svc.domain.search import MemoryKind
from memory_svc.interfaces.repositories import OutboxEntry
from memory_svc.interfaces.unit_of_work import UnitOfWork
from memory_svc.interfaces.vector_index import VectorIndex
from memory_svc.managers.collection_filling import CollectionFilling, LostPoints
from memory_svc.managers.index_documents import IndexDocuments, PreparedDocuments

_log = logging.getLogger(__name__)

_BATCH = 128
_SLICE = 32
_POLL_S = 2.0
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 10.0
_POSTPONED_S = 60.0
# The engine reads its log again when it is opened: after so long it should be short.
_FLUSH_S = 20.0


class IndexApplier:
    """Background work, and the IndexProgress of this process. Several may run: each entry is held by one.

    `only_writer` says that no other process writes memory, so that this one knows when nothing is waiting.
    """

    def __init__(self, work: UnitOfWork, index: VectorIndex, documents: IndexDocuments, *, only_writer: bool) -> None:
        self._work = work
        self._index = index
        self._documents = documents
        self._only_writer = only_writer
        self._filling_of = CollectionFilling(work, index)
        self._filled = False
        self._filling: int | None = None
        self._caught_up = False
        self._pokes = 0
        self._unflushed = False
        self._flushed_at = time.monotonic()
        self._poked = asyncio.Event()
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        # Usually the index is as it was left, and searches need not be answered by words alone for a moment.
        with suppress(Exception):
            self._filled = await self._filling_of.is_complete()
        self._task = asyncio.create_task(self._run(), name="index-applier")

    async def stop(self) -> None:
        await end_task(self._task)

    def poke(self) -> None:
        self._pokes += 1
        self._caught_up = False
        self._poked.set()

    @property
    def is_caught_up(self) -> bool:
        return self._caught_up

    @property
    def is_filled(self) -> bool:
        return self._filled

    async def wait_applied(self, organization_id: uuid.UUID, position: int, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        self.poke()
        while True:
            progress = self._progress
            async with self._work.begin(None) as transaction:
                if await transaction.outbox.is_applied(organization_id, position):
                    return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            # Another replica may be the one that applies it; its progress is only seen by asking again.
            with suppress(TimeoutError):
                async with asyncio.timeout(min(remaining, 0.2)):
                    await progress.wait()

    async def _run(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                if not self._filled:
                    await self._fill()
                if not await self._step():
                    await self._rest()
                await self._flush()
                backoff_s = _FIRST_BACKOFF_S
            except Exception as error:  # whatever is down comes back; the work is still in the outbox
                _log.warning("indexing pauses", extra={"error": str(error), "for_s": backoff_s})
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)

    async def _fill(self) -> None:
        """Brings a new or lost collection to the point where searches may rely on it; one step at a time."""
        if self._filling is None:
            self._filled = await self._filling_of.is_complete()
            self._filling = None if self._filled else await self._filling_of.begin()
            return
        try:
            self._filled = await self._filling_of.is_done(self._filling)
        except LostPoints:
            # Begun again from the start.
            self._filling = None
            raise

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_S):
                await self._poked.wait()
        self._poked.clear()

    async def _flush(self) -> None:
        if self._unflushed and time.monotonic() - self._flushed_at > _FLUSH_S:
            self._unflushed = False
            await self._index.flush()
            self._flushed_at = time.monotonic()

    async def _step(self) -> int:
        """Applies one batch; returns how many entries it took."""
        pokes = self._pokes
        async with self._work.begin(None) as transaction:
            entries = await transaction.outbox.claim(_BATCH)
            if not entries:
                nothing_failed = not await transaction.outbox.has_waiting()
                self._caught_up = self._only_writer and nothing_failed and pokes == self._pokes
                return 0
            try:
                done = await self._apply(entries)
                failed: list[OutboxEntry] = []
            except Unavailable:
                raise
            except Exception:
                _log.warning("a batch could not be indexed: trying its items one by one", exc_info=True)
                done, failed = await self._apply_singly(entries)
            await transaction.outbox.remove([entry.id for entry in done])
            if failed:
                later = datetime.now(UTC) + timedelta(seconds=_POSTPONED_S)
                await transaction.outbox.postpone([entry.id for entry in failed], later)
        self._unflushed = True
        self._announce()
        return len(entries)

    def _announce(self) -> None:
        """Wakes all who wait for progress now; who waits later waits for the next."""
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()

    async def _apply(self, entries: Sequence[OutboxEntry]) -> list[OutboxEntry]:
        """Returns the entries that are done: all but those left for the next batch because this one is large enough."""
        handled: set[uuid.UUID] = set()
        following = _slices(entries)
        preparing: asyncio.Task[PreparedDocuments] | None = None
        try:
            for place in range(len(following) + 1):
                # The next texts are embedded while these are written.
                prepared = await preparing if preparing is not None else None
                preparing = None
                if place < len(following):
                    preparing = asyncio.create_task(self._documents.prepare(*following[place]), name="index-prepare")
                if prepared is not None:
                    handled.update(await self._documents.write(prepared))
        finally:
            await end_task(preparing)
        return [entry for entry in entries if entry.item_id in handled]

    async def _apply_singly(self, entries: Sequence[OutboxEntry]) -> tuple[list[OutboxEntry], list[OutboxEntry]]:
        done: list[OutboxEntry] = []
        failed: list[OutboxEntry] = []
        for entry in entries:
            try:
                done += await self._apply([entry])
            except Unavailable:
                raise
            except Exception:
                _log.exception("an item cannot be indexed", extra={"item_id": str(entry.item_id)})
                failed.append(entry)
        return done, failed


def _slices(entries: Sequence[OutboxEntry]) -> list[tuple[uuid.UUID, MemoryKind, list[uuid.UUID]]]:
    """The items by organization and kind, each once, so many at a time."""
    groups: dict[tuple[uuid.UUID, MemoryKind], dict[uuid.UUID, None]] = defaultdict(dict)
    for entry in entries:
        groups[entry.organization_id, entry.kind][entry.item_id] = None
    return [
        (organization_id, kind, ids[start : start + _SLICE])
        for (organization_id, kind), group in groups.items()
        for ids in [list(group)]
        for start in range(0, len(ids), _SLICE)
    ]
