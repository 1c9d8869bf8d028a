"""The last order of what was found: fused lists, the terms of `terms.py`, and identifiers before all else."""

from collections.abc import Sequence
from dataclasses import replace

from memory_svc.domain.lexical_text import identifier_share, identifiers
from memory_svc.domain.questions import understood
from memory_svc.domain.search import Item, SearchResult, Signal, SignalScore
from memory_svc.domain.terms import TERM_WEIGHTS, terms

# Above all else together: a text that holds the asked ERR-48211-C37 comes before any that does not.
_IDENTIFIER_WEIGHT = 6.0


def ranked(query: str, found: Sequence[SearchResult[Item]]) -> list[SearchResult[Item]]:
    """The results with all terms added to score and explanation, best first."""
    items = [result.item for result in found]
    added = terms(understood(query), items, {result.item.id: result.fused for result in found})
    better = [
        _raised(result, [(signal, value, TERM_WEIGHTS[signal]) for signal, value in added[result.item.id].items()])
        for result in found
    ]
    return sorted(better, key=lambda result: -result.score)


def identified(query: str, found: Sequence[SearchResult[Item]]) -> list[SearchResult[Item]]:
    """The results again, those that hold the query's identifiers first; as they were where it has none."""
    wanted = identifiers(query)
    if not wanted:
        return list(found)
    shares = [(result, identifier_share(wanted, result.item.ranked_text)) for result in found]
    better = [
        _raised(result, [(Signal.IDENTIFIER, share, _IDENTIFIER_WEIGHT)]) if share else result
        for result, share in shares
    ]
    return sorted(better, key=lambda result: -result.score)


def _raised(result: SearchResult[Item], parts: Sequence[tuple[Signal, float, float]]) -> SearchResult[Item]:
    # Only lists have ranks.
    signals = [SignalScore(signal, value, 0, weight * value) for signal, value, weight in parts]
    score = result.score + sum(part.contribution for part in signals)
    return replace(result, score=score, signals=(*result.signals, *signals))
