"""Search: several lists from the index, fused, put in order by what Postgres knows of the best, and checked against it.

The index only proposes. Every hit is read from Postgres in the searcher's organization, and one that is deleted, out of
scope or of another version than the indexed one is dropped, however stale the index is. What is not indexed yet is merged in.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from chassis.callcontext import current_call
from chassis.errors import Unavailable, invalid_field
from memory_svc.domain.fusion import Fusion
from memory_svc.domain.lexical_text import identifiers
from memory_svc.domain.ranking import identified, ranked
from memory_svc.domain.search import (
    LISTS_OF,
    Item,
    Scope,
    Searchable,
    SearchMode,
    SearchPage,
    SearchResult,
    Signal,
    SignalScore,
)
from memory_svc.interfaces.embedder import Embedder, LexicalEncoder, Urgency
from memory_svc.interfaces.indexing import IndexProgress
from memory_svc.interfaces.repositories import Shelf
from memory_svc.interfaces.search import CandidateReader
from memory_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from memory_svc.interfaces.vector_index import ListQuery, VectorIndex
from memory_svc.managers.unindexed_rows import Lists, UnindexedRows

_log = logging.getLogger(__name__)

# What each list is asked for. Fusion gains nothing below the first hundred.
_DEPTH = 100
_DEEPEST = 2_000
# So many of the best are put into their last order by what is known of them beside the lists.
_REORDERED = 100
# So many rows that are not indexed yet are looked at, the newest.
_UNINDEXED = 200
_LONGEST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Question:
    """A query, and where and how it is asked."""

    scope: Scope
    text: str
    mode: SearchMode
    top_k: int


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What the index proposes, in order, with the point that stands for each."""

    results: Sequence[SearchResult[Searchable]]
    points: Mapping[uuid.UUID, uuid.UUID]


class HybridSearch:
    """A Searcher over a vector index, an embedder and Postgres."""

    def __init__(
        self,
        work: UnitOfWork,
        candidates: CandidateReader,
        index: VectorIndex,
        embedder: Embedder,
        lexical: LexicalEncoder,
        progress: IndexProgress,
    ) -> None:
        self._work = work
        self._reader = candidates
        self._index = index
        self._embedder = embedder
        self._lexical = lexical
        self._progress = progress

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
        if not query.strip():
            raise invalid_field("query", "must not be blank")
        if after_position:
            await self._progress.wait_applied(scope.organization_id, after_position, _patience_s())
        try:
            if not self._progress.is_filled:
                raise Unavailable("the index is being filled", reason="DEPENDENCY_UNAVAILABLE")
            return SearchPage(await self._by_index(shelf, _Question(scope, query, mode, top_k)))
        except Unavailable as error:
            _log.warning("searching by words alone", extra={"reason": error.reason})
        async with self._work.begin(scope.organization_id) as transaction:
            found = await shelf(transaction).by_words(scope, query, top_k)
        return SearchPage(tuple(_degraded(found)), degraded=True)

    async def _by_index(
        self, shelf: Callable[[Transaction], Shelf[Item]], question: _Question
    ) -> tuple[SearchResult[Item], ...]:
        # Read before the index is asked: what is applied in between is then in both, never in neither.
        waiting = UnindexedRows(question.scope.organization_id, await self._unindexed(shelf, question.scope))
        depth = max(_DEPTH, 2 * question.top_k)
        vectors, lists = await self._ask(question, depth)
        await waiting.compare(vectors, self._embedder, self._lexical)
        while True:
            full = any(len(found) == depth for found in lists.values())
            waiting.merge(lists)
            fusion = Fusion(lists)
            candidates = await self._candidates(question, fusion, waiting)
            results = await self._checked(shelf, question, candidates, fusion, waiting)
            # Long texts fill a list with their chunks, and stale points are dropped: then look deeper.
            if len(results) >= question.top_k or not full or depth >= _DEEPEST:
                return results
            depth = min(4 * depth, _DEEPEST)
            lists = await self._index.search(question.scope, vectors, depth)

    async def _ask(self, question: _Question, depth: int) -> tuple[dict[Signal, ListQuery], Lists]:
        """The query as vectors, and the lists; the lists of words are asked for while the query is embedded."""
        signals = LISTS_OF[question.mode]
        words: dict[Signal, ListQuery] = {
            signal: self._lexical.query(question.text) for signal in signals if signal is not Signal.DENSE
        }

        async def by_meaning() -> tuple[dict[Signal, ListQuery], Lists]:
            if Signal.DENSE not in signals:
                return {}, {}
            [vector] = await self._embedder.embed([question.text], Urgency.QUERY)
            asked: dict[Signal, ListQuery] = {Signal.DENSE: vector}
            return asked, await self._index.search(question.scope, asked, depth)

        async def by_words() -> Lists:
            return await self._index.search(question.scope, words, depth) if words else {}

        (meaning, dense), lexical = await asyncio.gather(by_meaning(), by_words())
        return meaning | words, dense | lexical

    async def _unindexed(self, shelf: Callable[[Transaction], Shelf[Item]], scope: Scope) -> Sequence[Item]:
        if self._progress.is_caught_up:
            return ()
        async with self._work.begin(scope.organization_id) as transaction:
            return await shelf(transaction).pending(scope, _UNINDEXED)

    async def _candidates(self, question: _Question, fusion: Fusion, waiting: UnindexedRows[Item]) -> _Candidates:
        """The best of the fusion that are really there, in their last order."""
        order = fusion.ranked()
        step = question.top_k + question.top_k // 2
        if question.mode is SearchMode.HYBRID:
            step = max(step, _REORDERED)
        if identifiers(question.text):
            # Identifiers are looked for in the texts themselves, so then all candidates are read.
            step = max(len(order), 1)
        found: dict[uuid.UUID, SearchResult[Searchable]] = {}
        points: dict[uuid.UUID, uuid.UUID] = {}
        for start in range(0, len(order), step):
            for key, result in await self._existing(question.scope, fusion, order[start : start + step], waiting):
                if found.setdefault(result.item.id, result) is result:
                    points[result.item.id] = key
            if len(found) >= question.top_k:
                break
        results = list(found.values())
        if question.mode is SearchMode.HYBRID:
            results = ranked(question.text, results)
        return _Candidates(identified(question.text, results), points)

    async def _existing(
        self, scope: Scope, fusion: Fusion, keys: Sequence[uuid.UUID], waiting: UnindexedRows[Item]
    ) -> list[tuple[uuid.UUID, SearchResult[Searchable]]]:
        """The points whose row is there in the version that was indexed."""
        references = await self._index.resolve([key for key in keys if key not in waiting.by_point])
        wanted = {reference.item_id for reference in references.values()} - waiting.ids
        rows = await self._reader.candidates(scope, wanted) if wanted else {}
        results: list[tuple[uuid.UUID, SearchResult[Searchable]]] = []
        for key in keys:
            reference = references.get(key)
            item = waiting.by_point.get(key) or (rows.get(reference.item_id) if reference else None)
            if item is None or (reference is not None and reference.version != item.version):
                continue
            score = fusion.score(key)
            results.append((key, SearchResult(item, score, score, reference.chunk if reference else 0)))
        return results

    async def _checked(
        self,
        shelf: Callable[[Transaction], Shelf[Item]],
        question: _Question,
        candidates: _Candidates,
        fusion: Fusion,
        waiting: UnindexedRows[Item],
    ) -> tuple[SearchResult[Item], ...]:
        """The first `top_k` candidates that lie in the scope by what Postgres says, as whole rows."""
        unindexed = {item.id: item for item in waiting.by_point.values()}
        found: list[SearchResult[Item]] = []
        for start in range(0, len(candidates.results), question.top_k):
            some = candidates.results[start : start + question.top_k]
            versions = {result.item.id: result.item.version for result in some}
            wanted = versions.keys() - unindexed.keys()
            rows: dict[uuid.UUID, Item] = dict(unindexed)
            if wanted:
                async with self._work.begin(question.scope.organization_id) as transaction:
                    rows |= await shelf(transaction).load(question.scope, wanted)
            for result in some:
                item = rows.get(result.item.id)
                if item is not None and item.version == result.item.version:
                    signals = (*fusion.signals(candidates.points[item.id]), *result.signals)
                    found.append(SearchResult(item, result.score, result.fused, result.chunk, signals))
            if len(found) >= question.top_k:
                break
        return tuple(found[: question.top_k])


def _degraded(found: Sequence[tuple[Item, float]]) -> list[SearchResult[Item]]:
    return [
        SearchResult(item, score, score, 0, (SignalScore(Signal.LEXICAL, score, rank, score),))
        for rank, (item, score) in enumerate(found, start=1)
    ]


def _patience_s() -> float:
    """How long to wait for the index: half of what the caller has left, so that searching still fits."""
    call = current_call()
    remaining = call.remaining_s() if call else None
    return _LONGEST_WAIT_S if remaining is None else min(_LONGEST_WAIT_S, remaining / 2)
