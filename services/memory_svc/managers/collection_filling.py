"""Filling an index collection that is new or was lost: queue everything, wait until it is done, verify, and switch to it.

Until then searches are answered by Postgres, by words alone. A new embedding model or layout means a new collection; the old
one is left alone and falls behind from the switch on, so going back fills it again.
"""

import logging

from memory_svc.interfaces.unit_of_work import UnitOfWork
from memory_svc.interfaces.vector_index import VectorIndex

_log = logging.getLogger(__name__)


class LostPoints(Exception):
    """The index does not have all that was put into it; the text says how much is missing."""


class CollectionFilling:
    """The steps of filling the index's collection. Several processes may do it at once: it costs work and harms nothing."""

    def __init__(self, work: UnitOfWork, index: VectorIndex) -> None:
        self._work = work
        self._index = index

    async def is_complete(self) -> bool:
        """Whether the collection was filled before and is still there."""
        empty = await self._index.count() == 0
        async with self._work.begin(None) as transaction:
            return not empty and await transaction.outbox.is_filled(self._index.name)

    async def begin(self) -> int:
        """Queues everything; returns the position in the outbox up to which it must be done. Cut short, it is begun again."""
        async with self._work.begin(None) as transaction:
            await transaction.outbox.set_filled(self._index.name, False)
            organizations = await transaction.outbox.organizations()
        queued = 0
        for organization_id in organizations:
            async with self._work.begin(organization_id) as transaction:
                queued += await transaction.outbox.enqueue_everything(organization_id)
        if queued:
            _log.info("filling the index", extra={"items": queued, "collection": self._index.name})
        async with self._work.begin(None) as transaction:
            return await transaction.outbox.newest_position(None)

    async def is_done(self, position: int) -> bool:
        """Whether all up to the position is in the index; the collection is then the one in use.

        Raises LostPoints where the index has fewer points than there are items.
        """
        async with self._work.begin(None) as transaction:
            if not await transaction.outbox.is_drained(position):
                return False
            organizations = await transaction.outbox.organizations()
        items = 0
        for organization_id in organizations:
            async with self._work.begin(organization_id) as transaction:
                items += await transaction.outbox.count_items(organization_id)
        points = await self._index.count()
        if points < items:
            raise LostPoints(f"the index has {points} points for {items} items")
        async with self._work.begin(None) as transaction:
            await transaction.outbox.set_filled(self._index.name, True)
        return True
