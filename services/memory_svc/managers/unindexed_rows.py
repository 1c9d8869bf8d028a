"""Rows that the index does not have yet, compared with a query one by one, and put into the lists where they would stand."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Generic

import numpy as np

from memory_svc.domain.search import Item, Signal
from memory_svc.interfaces.embedder import DenseVector, Embedder, LexicalEncoder, SparseVector, Urgency
from memory_svc.interfaces.vector_index import ListQuery, point_id

# So many are compared by meaning; words cost next to nothing.
_BY_MEANING = 32

Lists = dict[Signal, dict[uuid.UUID, float]]


class UnindexedRows(Generic[Item]):
    """Some rows, by the point that they will have."""

    def __init__(self, organization_id: uuid.UUID, items: Sequence[Item]) -> None:
        self.by_point = {point_id(organization_id, item.id, 0): item for item in items}
        self.ids = {item.id for item in items}
        self._scores: Lists = {}

    async def compare(self, vectors: Mapping[Signal, ListQuery], embedder: Embedder, words: LexicalEncoder) -> None:
        """Works out what the lists would say: cosines, and for words the share of the query's words.

        How rare a word is only the index knows, so `merge` puts the shares on the scale of the list.
        """
        self._scores = {signal: {} for signal in vectors}
        if not self.by_point:
            return
        documents = {key: words.document(item.ranked_text).indices for key, item in self.by_point.items()}
        for signal, query in vectors.items():
            if isinstance(query, SparseVector):
                asked = set(query.indices)
                shares = {key: len(asked.intersection(indices)) for key, indices in documents.items()}
                self._scores[signal] = {key: count / len(asked) for key, count in shares.items() if count}
            else:
                self._scores[signal] = await self._cosines(query, embedder)

    def merge(self, lists: Lists) -> None:
        """Puts the rows into the lists, in place of what the index may still have of them."""
        for signal, scores in self._scores.items():
            known = lists.setdefault(signal, {})
            # Of meanings only some are compared; the rest keeps the place that it had.
            for key in scores if signal is Signal.DENSE else self.by_point:
                known.pop(key, None)
            # A share of the words counts like that share of the best that the list has.
            scale = 1.0 if signal is Signal.DENSE else max(known.values(), default=1.0)
            for key, score in scores.items():
                known[key] = score * scale

    async def _cosines(self, query: DenseVector, embedder: Embedder) -> dict[uuid.UUID, float]:
        some = dict(list(self.by_point.items())[:_BY_MEANING])
        vectors = await embedder.embed([item.ranked_text for item in some.values()], Urgency.QUERY)
        return {key: float(np.dot(vector, query)) for key, vector in zip(some, vectors, strict=True)}
