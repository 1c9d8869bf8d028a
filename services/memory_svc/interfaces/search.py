"""The role of search, as seen by those who offer it for one kind of memory."""

from collections.abc import Callable
from typing import Protocol

from memory_svc.domain.search import Item, Scope, SearchMode, SearchPage
from memory_svc.interfaces.repositories import Shelf
from memory_svc.interfaces.unit_of_work import Transaction


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
