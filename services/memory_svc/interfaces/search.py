"""The role of search, as seen by those who offer it for one kind of memory."""

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from memory_svc.domain.search import Candidate, Item, Scope, SearchMode, SearchPage
from memory_svc.interfaces.repositories import Shelf
from memory_svc.interfaces.unit_of_work import Transaction


class CandidateReader(Protocol):
    """Reads what the order of hits depends on, outside of any transaction."""

    async def candidates(self, scope: Scope, item_ids: Collection[uuid.UUID]) -> Mapping[uuid.UUID, Candidate]:
        """Of the items named, those that exist in the scope's organization now; of the scope only that and the kind count."""
        ...


class Searcher(Protocol):
    """Finds the items of one shelf that fit a query best."""

    async def search(
        self,
        shelf: Callable[[Transaction], Shelf[Item]],
        scope: Scope,
        query: str,
        *,
        mode: SearchMode = SearchMode.HYBRID,
        top_k: int = 10,
        after_position: int = 0,
    ) -> SearchPage[Item]:
        """At most `top_k` items of the scope, best first; exactly so many where that many fit.

        What was committed up to the outbox position `after_position` is found. `degraded` is set where the vector index
        did not answer. Raises InvalidArgument for a blank query.
        """
        ...
