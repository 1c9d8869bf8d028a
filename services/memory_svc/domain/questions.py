"""What a query says beside its words: whom it names, which dates it speaks of, and whether it asks when something was."""

import re
from dataclasses import dataclass
from datetime import datetime

_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_NAMES = "|".join(_MONTHS)
_MONTH = re.compile(rf"\b({_NAMES})\b", re.IGNORECASE)
# `may` and `march` are words too: they are months beside a number or after what comes before a time.
_CLEARLY_MONTH = re.compile(
    r"\b(?:in|of|since|until|till|by|before|after|during|early|late|mid|last|next|this|\d{1,2}(?:st|nd|rd|th)?)[ -]+"
    r"(may|march)\b|\b(may|march),? \d",
    re.IGNORECASE,
)
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")
_DAY = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?:{_NAMES})\b|\b(?:{_NAMES}) (\d{{1,2}})(?:st|nd|rd|th)?\b", re.IGNORECASE
)
_ISO = re.compile(r"\b((?:19|20)\d\d)-(0[1-9]|1[0-2])(?:-([0-3]\d))?\b")
_WORD = re.compile(r"[^\W_]+")
_ASKS_WHEN = re.compile(r"\b(?:when|how long|(?:what|which) (?:day|date|week|month|year|time))\b", re.IGNORECASE)
_TELLS_WHEN = re.compile(
    rf"\b(?:yesterday|today|tonight|tomorrow|last|next|ago|week|weekend|month|year|morning|recently|just|"
    rf"monday|tuesday|wednesday|thursday|friday|saturday|sunday|{_NAMES}|20\d\d)\b",
    re.IGNORECASE,
)
# The parts of a longer query that are read: patterns need not see a whole document.
_READ_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Question:
    """A query as it was understood. Empty sets say that nothing was named."""

    words: frozenset[str]
    months: frozenset[int]
    years: frozenset[int]
    days: frozenset[int]
    asks_when: bool

    def names(self, speaker: str) -> bool:
        """Whether a part of the speaker's name is among the words."""
        return any(len(part) > 1 and part in self.words for part in _words(speaker))

    def fits(self, moment: datetime) -> float:
        """How well a time fits the dates that are named: 0 not at all or none named, 1 the month or year, 1.5 the day."""
        if not self.months and not self.years:
            return 0.0
        if (self.months and moment.month not in self.months) or (self.years and moment.year not in self.years):
            return 0.0
        if not self.days:
            return 1.0
        return 1.5 if moment.day in self.days else 0.5


def understood(query: str) -> Question:
    """Reads a query. English only: of other languages it finds names, years and ISO dates."""
    text = query[:_READ_CHARACTERS]
    months = {_MONTHS.index(name.lower()) + 1 for name in _MONTH.findall(text)}
    clear = {name.lower() for pair in _CLEARLY_MONTH.findall(text) for name in pair if name}
    months -= {_MONTHS.index(name) + 1 for name in ("may", "march") if name not in clear}
    years = {int(year) for year in _YEAR.findall(text)}
    days = {int(before or after) for before, after in _DAY.findall(text)}
    for _, month, day in _ISO.findall(text):
        months.add(int(month))
        days |= {int(day)} if day else set()
    return Question(
        _words(text), frozenset(months), frozenset(years), frozenset(days), _ASKS_WHEN.search(text) is not None
    )


def tells_when(text: str) -> bool:
    """Whether a text speaks of a time, as an answer to `when` does."""
    return _TELLS_WHEN.search(text[:_READ_CHARACTERS]) is not None


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))
