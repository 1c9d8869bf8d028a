"""What is known of a hit beside the lists: its neighbours, its session, its speaker, its date, its form.

Each term is a number of about 0…1, weighed and added to the fused score. A text that has no conversation, speaker or date
simply gets nothing from those terms. ADR 9 tells how the weights were found.
"""

import math
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence

from memory_svc.domain.questions import Question, tells_when
from memory_svc.domain.search import Place, Searchable, Signal

TERM_WEIGHTS: Mapping[Signal, float] = {
    Signal.PRECEDING: 0.2,
    Signal.FOLLOWING: 0.1,
    Signal.ANSWER: 0.3,
    Signal.SESSION: 0.4,
    Signal.SPEAKER: 0.5,
    Signal.DATE: 0.8,
    Signal.TELLS_WHEN: 0.45,
    Signal.ASKS: -0.12,
    Signal.LENGTH: 0.5,
}
# A silence of this long ends a session.
_SESSION_GAP_S = 3_600
# A session is as good as its best few hits together.
_SESSION_BEST = 3
# So many words say all that length has to say.
_FULL_LENGTH_WORDS = 40

_At = tuple[uuid.UUID, int]


def terms(
    question: Question, items: Sequence[Searchable], fused: Mapping[uuid.UUID, float]
) -> dict[uuid.UUID, dict[Signal, float]]:
    """For each item the terms that are not 0. `fused` holds what the lists say of it, by id."""
    talk = _Talk(items, fused)
    return {
        item.id: {signal: value for signal, value in _terms(question, item, talk).items() if value} for item in items
    }


class _Talk:
    """The hits that are part of conversations: by place, and by session."""

    def __init__(self, items: Sequence[Searchable], fused: Mapping[uuid.UUID, float]) -> None:
        self._fused = fused
        self._by_place: dict[_At, Searchable] = {}
        by_conversation: dict[uuid.UUID, list[Searchable]] = defaultdict(list)
        for item in items:
            if item.place is not None:
                self._by_place[item.place.conversation_id, item.place.seq] = item
                by_conversation[item.place.conversation_id].append(item)
        self._session_of: dict[uuid.UUID, int] = {}
        self._worth: list[float] = []
        for members in by_conversation.values():
            self._divide(sorted(members, key=lambda item: item.create_time))
        self._best = max(self._worth, default=0.0) or 1.0

    def neighbour(self, item: Searchable, step: int) -> Searchable | None:
        """The hit `step` places further in the same session."""
        if item.place is None:
            return None
        found = self._by_place.get((item.place.conversation_id, item.place.seq + step))
        return found if found is not None and self._session_of[found.id] == self._session_of[item.id] else None

    def nearness(self, item: Searchable, direction: int) -> float:
        """What the lists say of the next hit in a direction, and half of it for the one after."""
        return sum(
            share * self._fused[found.id]
            for step, share in ((1, 1.0), (2, 0.5))
            if (found := self.neighbour(item, direction * step)) is not None
        )

    def session(self, item: Searchable) -> float:
        """How good the item's session is, the best being 1."""
        return self._worth[self._session_of[item.id]] / self._best if item.id in self._session_of else 0.0

    def score(self, item: Searchable) -> float:
        return self._fused[item.id]

    def _divide(self, ordered: Sequence[Searchable]) -> None:
        sessions: list[list[Searchable]] = []
        for item in ordered:
            if not sessions or (item.create_time - sessions[-1][-1].create_time).total_seconds() > _SESSION_GAP_S:
                sessions.append([])
            sessions[-1].append(item)
        for members in sessions:
            for item in members:
                self._session_of[item.id] = len(self._worth)
            best = sorted((self._fused[item.id] for item in members), reverse=True)[:_SESSION_BEST]
            self._worth.append(sum(best))


def _terms(question: Question, item: Searchable, talk: _Talk) -> dict[Signal, float]:
    found = {
        Signal.DATE: question.fits(item.create_time),
        Signal.TELLS_WHEN: float(question.asks_when and tells_when(item.ranked_text)),
    }
    place: Place | None = item.place
    if place is None:
        return found
    before = talk.neighbour(item, -1)
    return found | {
        Signal.PRECEDING: talk.nearness(item, -1),
        Signal.FOLLOWING: talk.nearness(item, 1),
        Signal.ANSWER: talk.score(before) if before is not None and _asks(before) else 0.0,
        Signal.SESSION: talk.session(item),
        Signal.SPEAKER: float(bool(place.speaker) and question.names(place.speaker)),
        Signal.ASKS: float(_asks(item)),
        # Of what is said, the short is greetings and thanks.
        Signal.LENGTH: _fullness(item.ranked_text),
    }


def _asks(item: Searchable) -> bool:
    return item.ranked_text.rstrip().endswith("?")


def _fullness(text: str) -> float:
    words = min(len(text.split(maxsplit=_FULL_LENGTH_WORDS)), _FULL_LENGTH_WORDS)
    return math.log1p(words) / math.log1p(_FULL_LENGTH_WORDS)
