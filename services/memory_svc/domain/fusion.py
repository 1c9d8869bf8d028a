"""Several ranked lists become one: each list scaled to 0…1 by its own extremes, then a weighted sum over the union.

A list that lacks an item gives it 0; no list may veto. Raw BM25 and cosine scores cannot be compared, ranks throw away
how far ahead the first is; min-max keeps that.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from memory_svc.domain.search import Ranked, Signal, SignalScore

Scores: TypeAlias = Mapping[uuid.UUID, float]

# Found on development data (bench/retrieval.py prints the table); weights need not sum to 1.
DEFAULT_WEIGHTS: Mapping[Signal, float] = {
    Signal.DENSE: 0.4,
    Signal.LEXICAL: 0.3,
    Signal.WINDOW: 0.3,
    # Above the sum of the others: a text that holds the asked ERR-48211-C37 comes before any that does not.
    Signal.IDENTIFIER: 1.5,
}


def scaled(scores: Scores) -> dict[uuid.UUID, float]:
    """The scores moved to 0…1. Where all are equal, all are 1: being found says something."""
    if not scores:
        return {}
    low, high = min(scores.values()), max(scores.values())
    if high - low <= 1e-9:
        return dict.fromkeys(scores, 1.0)
    return {key: (value - low) / (high - low) for key, value in scores.items()}


def fuse(
    lists: Mapping[Signal, Scores],
    weights: Mapping[Signal, float] = DEFAULT_WEIGHTS,
    *,
    already_scaled: frozenset[Signal] = frozenset({Signal.IDENTIFIER}),
) -> Sequence[Ranked]:
    """The union of the lists, best first. Ties fall to the newer id (ids are time-ordered), so that answers are stable.

    `already_scaled` names signals whose scores are shares of 1 by themselves and must not be stretched.
    """
    parts: dict[uuid.UUID, list[SignalScore]] = {}
    for signal, scores in lists.items():
        weight = weights.get(signal, 0.0)
        unit = scores if signal in already_scaled else scaled(scores)
        order = sorted(scores, key=lambda item: (-scores[item], -item.int))
        for rank, item in enumerate(order, start=1):
            parts.setdefault(item, []).append(SignalScore(signal, scores[item], rank, weight * unit[item]))
    ranked = [
        Ranked(item, sum(part.contribution for part in signals), tuple(signals)) for item, signals in parts.items()
    ]
    ranked.sort(key=lambda hit: (-hit.score, -hit.key.int))
    return ranked
