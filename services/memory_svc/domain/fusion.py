"""Several ranked lists become one: each list scaled to 0…1 by its own extremes, then a weighted sum over the union.

A list that lacks an item gives it 0; no list may veto. Raw BM25 and cosine scores cannot be compared, and ranks throw
away how far ahead the first is; min-max keeps that.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from memory_svc.domain.search import Signal, SignalScore

Scores: TypeAlias = Mapping[uuid.UUID, float]

# Found on development data (bench/retrieval.py prints the table); weights need not sum to 1.
DEFAULT_WEIGHTS: Mapping[Signal, float] = {
    Signal.DENSE: 0.4,
    Signal.LEXICAL: 0.4,
    Signal.WINDOW: 0.4,
}


def scaled(scores: Scores) -> dict[uuid.UUID, float]:
    """The scores moved to 0…1. Where all are equal, all are 1: being found says something."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high - low <= 1e-9:
        return dict.fromkeys(scores, 1.0)
    width = high - low
    return {key: (value - low) / width for key, value in scores.items()}


class Fusion:
    """The union of some lists. What each list said of an item is worked out only for the items asked about."""

    def __init__(self, lists: Mapping[Signal, Scores], weights: Mapping[Signal, float] = DEFAULT_WEIGHTS) -> None:
        self._lists = lists
        self._weights = weights
        self._scaled = {signal: scaled(scores) for signal, scores in lists.items()}
        self._orders: dict[Signal, dict[uuid.UUID, int]] = {}
        totals: dict[uuid.UUID, float] = {}
        for signal, scores in self._scaled.items():
            weight = weights.get(signal, 0.0)
            for key, value in scores.items():
                totals[key] = totals.get(key, 0.0) + weight * value
        self._totals = totals

    def ranked(self) -> Sequence[uuid.UUID]:
        """All keys, best first. Ties keep one order, so that answers are stable."""
        return sorted(self._totals, key=lambda key: (-self._totals[key], key.int))

    def score(self, key: uuid.UUID) -> float:
        """The weighted sum."""
        return self._totals[key]

    def signals(self, key: uuid.UUID) -> tuple[SignalScore, ...]:
        """What each list that has the key says of it; contributions add up to the score."""
        return tuple(
            SignalScore(
                signal,
                scores[key],
                self._order(signal)[key],
                self._weights.get(signal, 0.0) * self._scaled[signal][key],
            )
            for signal, scores in self._lists.items()
            if key in scores
        )

    def _order(self, signal: Signal) -> Mapping[uuid.UUID, int]:
        known = self._orders.get(signal)
        if known is None:
            scores = self._lists[signal]
            ordered = sorted(scores, key=lambda key: (-scores[key], key.int))
            known = self._orders[signal] = {key: rank for rank, key in enumerate(ordered, start=1)}
        return known
