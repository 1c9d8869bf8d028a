"""Search: several lists from the index, fused, checked against Postgres, with what is not indexed yet merged in.

The index only proposes. Every hit is read from Postgres in the searcher's organization, and one that is deleted, out of
scope or of another version than the indexed one is dropped, however stale the index is.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from chassis.callcontext import current_call
from chassis.errors import Unavailable, invalid_field
from memory_svc.domain.fusion import Fusion
from memory_svc.domain.lexical_text import identifiers
from memory_svc.domain.ranking import identified, ranked
from memory_svc.domain.search import (
    LISTS_OF,
    Item,
    Scope,
    SearchMode,
    SearchPage,
    SearchResult,
    Signal,
    SignalScore,
)
from memory_svc.interfaces.embedder import DenseVector, Embedder, LexicalEncoder, SparseVector, Urgency
from memory_svc.interfaces.indexing import IndexProgress
from memory_svc.interfaces.repositories import Shelf
from memory_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from memory_svc.interfaces.vector_index import ListQuery, VectorIndex, point_id

_log = logging.getLogger(__name__)

# What each list is asked for. Fusion gains nothing below the first hundred.
_DEPTH = 100
_DEEPEST = 2_000
# So many of the best are read from Postgres and put into their last order by what is known of them beside the lists.
_REORDERED = 100
# Rows not indexed yet are compared one by one: so many by meaning, so many by words.
_PENDING_DENSE = 32
_PENDING = 200
_LONGEST_WAIT_S = 5.0

_Lists = dict[Signal, dict[uuid.UUID, float]]


@dataclass(frozen=True, slots=True)
class _Question:
    """A query in all the forms in which it is asked."""

    scope: Scope
    text: str
    mode: SearchMode
    signals: tuple[Signal, ...]
    vectors: Mapping[Signal, ListQuery]


class _Hits(Generic[Item]):
    """Rows not indexed yet, by the point that they will have."""

    def __init__(self, organization_id: uuid.UUID, items: Sequence[Item]) -> None:
        self.by_point = {point_id(organization_id, item.id, 0): item for item in items}
        self.ids = {item.id for item in items}


class HybridSearch:
    """A Searcher over a vector index, an embedder and Postgres."""

    def __init__(
        self,
        work: UnitOfWork,
        index: VectorIndex,
        embedder: Embedder,
        lexical: LexicalEncoder,
        progress: IndexProgress,
    ) -> None:
        self._work = work
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
            return SearchPage(await self._by_index(shelf, scope, query, mode, top_k))
        except Unavailable as error:
            _log.warning("searching by words alone", extra={"reason": error.reason})
        async with self._work.begin(scope.organization_id) as transaction:
            found = await shelf(transaction).by_words(scope, query, top_k)
        return SearchPage(tuple(_degraded(found)), degraded=True)

    async def _by_index(
        self, shelf: Callable[[Transaction], Shelf[Item]], scope: Scope, query: str, mode: SearchMode, top_k: int
    ) -> tuple[SearchResult[Item], ...]:
        # Pending rows are read before the index is asked: what is applied in between is then in both, never in neither.
        question, pending = await asyncio.gather(self._question(scope, query, mode), self._pending(shelf, scope))
        waiting = _Hits(scope.organization_id, pending)
        scores = await self._pending_scores(question, waiting)
        depth = max(_DEPTH, 2 * top_k)
        while True:
            lists = await self._index.search(scope, question.vectors, depth)
            full = any(len(found) == depth for found in lists.values())
            _merge(lists, scores, waiting.by_point.keys())
            results = await self._results(shelf, question, Fusion(lists), waiting, top_k)
            # Long texts fill a list with their chunks, and stale points are dropped: then look deeper.
            if len(results) >= top_k or not full or depth >= _DEEPEST:
                return results
            depth = min(4 * depth, _DEEPEST)

    async def _question(self, scope: Scope, text: str, mode: SearchMode) -> _Question:
        signals = LISTS_OF[mode]
        vectors: dict[Signal, ListQuery] = {}
        for signal in signals:
            if signal is Signal.DENSE:
                [vectors[signal]] = await self._embedder.embed([text], Urgency.QUERY)
            else:
                vectors[signal] = self._lexical.query(text)
        return _Question(scope, text, mode, signals, vectors)

    async def _pending(self, shelf: Callable[[Transaction], Shelf[Item]], scope: Scope) -> Sequence[Item]:
        if self._progress.is_caught_up:
            return ()
        async with self._work.begin(scope.organization_id) as transaction:
            return await shelf(transaction).pending(scope, _PENDING)

    async def _pending_scores(self, question: _Question, waiting: _Hits[Item]) -> _Lists:
        """What the lists would say of rows that are not in them: cosines, and for words the share of the query's words.

        How rare a word is only the index knows, so shares are put on the scale of the list later.
        """
        found: _Lists = {signal: {} for signal in question.signals}
        if not waiting.by_point:
            return found
        if Signal.DENSE in found:
            some = dict(list(waiting.by_point.items())[:_PENDING_DENSE])
            texts = [item.ranked_text for item in some.values()]
            vectors = await self._embedder.embed(texts, Urgency.QUERY)
            query = question.vectors[Signal.DENSE]
            found[Signal.DENSE] = {key: _cosine(query, vector) for key, vector in zip(some, vectors, strict=True)}
        words = set(self._lexical.query(question.text).indices)
        for signal in found.keys() - {Signal.DENSE}:
            for key, item in waiting.by_point.items():
                common = words.intersection(self._lexical.document(item.ranked_text).indices)
                if common:
                    found[signal][key] = len(common) / len(words)
        return found

    async def _results(
        self,
        shelf: Callable[[Transaction], Shelf[Item]],
        question: _Question,
        fusion: Fusion,
        waiting: _Hits[Item],
        top_k: int,
    ) -> tuple[SearchResult[Item], ...]:
        order = fusion.ranked()
        step = top_k + top_k // 2
        if question.mode is SearchMode.HYBRID:
            step = max(step, _REORDERED)
        if identifiers(question.text):
            # Identifiers are looked for in the texts themselves, so then all candidates are read.
            step = max(len(order), 1)
        results: dict[uuid.UUID, SearchResult[Item]] = {}
        for start in range(0, len(order), step):
            for result in await self._hydrate(shelf, question.scope, fusion, order[start : start + step], waiting):
                results.setdefault(result.item.id, result)
            if len(results) >= top_k:
                break
        found = list(results.values())
        if question.mode is SearchMode.HYBRID:
            found = ranked(question.text, found)
        return tuple(identified(question.text, found)[:top_k])

    async def _hydrate(
        self,
        shelf: Callable[[Transaction], Shelf[Item]],
        scope: Scope,
        fusion: Fusion,
        keys: Sequence[uuid.UUID],
        waiting: _Hits[Item],
    ) -> list[SearchResult[Item]]:
        references = await self._index.resolve([key for key in keys if key not in waiting.by_point])
        wanted = {reference.item_id for reference in references.values()} - waiting.ids
        rows: Mapping[uuid.UUID, Item] = {}
        if wanted:
            async with self._work.begin(scope.organization_id) as transaction:
                rows = await shelf(transaction).load(scope, wanted)
        results: list[SearchResult[Item]] = []
        for key in keys:
            reference = references.get(key)
            item = waiting.by_point.get(key) or (rows.get(reference.item_id) if reference else None)
            if item is None or (reference is not None and reference.version != item.version):
                continue
            chunk = reference.chunk if reference else 0
            score = fusion.score(key)
            results.append(SearchResult(item, score, score, chunk, fusion.signals(key)))
        return results


def _merge(lists: _Lists, pending: _Lists, points: Collection[uuid.UUID]) -> None:
    """Puts what is not indexed yet into the lists, in place of what the index may still have of it."""
    for signal, scores in pending.items():
        known = lists.setdefault(signal, {})
        # Of meanings only some are compared; the rest keeps the place that it had.
        for key in scores if signal is Signal.DENSE else points:
            known.pop(key, None)
        # A share of the words counts like that share of the best that the list has.
        scale = 1.0 if signal is Signal.DENSE else max(known.values(), default=1.0)
        for key, score in scores.items():
            known[key] = score * scale


def _degraded(found: Sequence[tuple[Item, float]]) -> list[SearchResult[Item]]:
    return [
        SearchResult(item, score, score, 0, (SignalScore(Signal.LEXICAL, score, rank, score),))
        for rank, (item, score) in enumerate(found, start=1)
    ]


def _cosine(query: ListQuery, vector: DenseVector) -> float:
    assert not isinstance(query, SparseVector)
    return float(np.dot(vector, query))


def _patience_s() -> float:
    """How long to wait for the index: half of what the caller has left, so that searching still fits."""
    call = current_call()
    remaining = call.remaining_s() if call else None
    return _LONGEST_WAIT_S if remaining is None else min(_LONGEST_WAIT_S, remaining / 2)
