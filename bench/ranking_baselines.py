"""What simpler searches reach on the same data: the rankings that bench/retrieval.py prints beside Hearth's own.

Computed here, exactly and in memory, with the embedder and the tokenizer that memory_svc uses.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from memory_svc.adapters.bm25 import Bm25Encoder
from memory_svc.adapters.embedder import MiniLmModel
from memory_svc.domain.chunking import window
from memory_svc.interfaces.embedder import SparseVector

Scores: TypeAlias = Mapping[int, float]
_DEPTH = 100


@dataclass(frozen=True, slots=True)
class Turn:
    """One line of a conversation."""

    speaker: str
    text: str

    @property
    def spoken(self) -> str:
        """With who says it."""
        return f"{self.speaker}: {self.text}"


class ExactConversation:
    """All lists over one conversation, by comparing with every turn."""

    def __init__(self, model: MiniLmModel, turns: Sequence[Turn]) -> None:
        self._model = model
        spoken = [turn.spoken for turn in turns]
        windows = [window(spoken, at) for at in range(len(spoken))]
        self._raw = _vectors(model, [turn.text for turn in turns])
        self._spoken = _vectors(model, spoken)
        self._words = {
            "raw": _Words([turn.text for turn in turns], 16),
            "spoken": _Words(spoken, 16),
            "window": _Words(windows, 60),
        }

    def lists(self, question: str) -> dict[str, Scores]:
        """Turn → score, for each list, by its name."""
        [query] = self._model.encode([question])
        found = {"dense raw": _best(self._raw @ query), "dense": _best(self._spoken @ query)}
        return found | {f"bm25 {name}": words.search(question) for name, words in self._words.items()}

    def cosines(self, question: str) -> NDArray[np.float32]:
        """The exact similarity of every turn, in order."""
        [query] = self._model.encode([question])
        return self._spoken @ query


class _Words:
    """BM25 with the rarity of words in this conversation."""

    def __init__(self, texts: Sequence[str], average_words: float) -> None:
        self._encoder = Bm25Encoder(average_words)
        self._documents = [_weights(self._encoder.document(text)) for text in texts]
        holders = Counter(word for document in self._documents for word in document)
        count = len(texts)
        self._rarity = {word: math.log(1 + (count - n + 0.5) / (n + 0.5)) for word, n in holders.items()}

    def search(self, question: str) -> Scores:
        asked = _weights(self._encoder.query(question))
        totals = [
            sum(weight * document.get(word, 0.0) * self._rarity.get(word, 0.0) for word, weight in asked.items())
            for document in self._documents
        ]
        return {at: total for at, total in _best(np.array(totals)).items() if total > 0}


def reciprocal(lists: Sequence[Scores], k: int) -> list[int]:
    """Reciprocal rank fusion."""
    totals: dict[int, float] = defaultdict(float)
    for scores in lists:
        for rank, at in enumerate(sorted(scores, key=lambda key: -scores[key]), start=1):
            totals[at] += 1 / (k + rank)
    return sorted(totals, key=lambda at: -totals[at])


def weighted(lists: Sequence[Scores], weights: Sequence[float]) -> list[int]:
    """Min-max of each list, weighted, over the union."""
    totals: dict[int, float] = {}
    for scores, weight in zip(lists, weights, strict=True):
        low, high = min(scores.values(), default=0.0), max(scores.values(), default=1.0)
        for at, score in scores.items():
            totals[at] = totals.get(at, 0.0) + weight * (score - low) / ((high - low) or 1.0)
    return sorted(totals, key=lambda at: -totals[at])


BASELINES: Mapping[str, Callable[[dict[str, Scores]], list[int]]] = {
    "dense only, raw text (Letta's archival search)": lambda lists: reciprocal([lists["dense raw"]], 1),
    "RRF k=60 of dense and BM25, raw text": lambda lists: reciprocal([lists["dense raw"], lists["bm25 raw"]], 60),
    'BM25 on "speaker: text"': lambda lists: reciprocal([lists["bm25 spoken"]], 1),
    'RRF k=2 of dense and BM25, "speaker: text"': lambda lists: reciprocal([lists["dense"], lists["bm25 spoken"]], 2),
    "min-max, .5 dense + .5 BM25": lambda lists: weighted([lists["dense"], lists["bm25 spoken"]], [0.5, 0.5]),
    "min-max, .4 dense + .3 BM25 + .3 BM25 over the window": lambda lists: weighted(
        [lists["dense"], lists["bm25 spoken"], lists["bm25 window"]], [0.4, 0.3, 0.3]
    ),
}


def _vectors(model: MiniLmModel, texts: Sequence[str]) -> NDArray[np.float32]:
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    found = np.zeros((len(texts), model.dimensions), np.float32)
    for start in range(0, len(order), 16):
        batch = order[start : start + 16]
        found[batch] = model.encode([texts[at] for at in batch])
    return found


def _best(scores: NDArray[np.float32] | NDArray[np.float64]) -> dict[int, float]:
    return {int(at): float(scores[at]) for at in np.argsort(-scores, kind="stable")[:_DEPTH]}


def _weights(vector: SparseVector) -> dict[int, float]:
    return dict(zip(vector.indices, vector.values, strict=True))
