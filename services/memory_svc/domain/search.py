"""What a search asks for and what it finds, the same shape for passages and messages."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Generic, Protocol, TypeVar


class MemoryKind(StrEnum):
    """What kind of memory an indexed item is."""

    PASSAGE = "passage"
    MESSAGE = "message"


class SearchMode(StrEnum):
    """Which lists a search asks."""

    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"


class Signal(StrEnum):
    """One ranked list, or one term computed after the lists are in."""

    DENSE = "dense"  # cosine of the embeddings
    LEXICAL = "lexical"  # BM25 over "speaker: text"
    WINDOW = "window"  # BM25 over the text and what stands around it
    IDENTIFIER = "identifier"  # share of the query's identifiers that the text holds literally
    PRECEDING = "preceding"  # what stands before it in the conversation was found too
    FOLLOWING = "following"  # what stands after it was found too
    ANSWER = "answer"  # what stands before it was found and is a question
    SESSION = "session"  # its session as a whole fits
    SPEAKER = "speaker"  # the query names who said it
    DATE = "date"  # the query names the month, year or day it is of
    TELLS_WHEN = "tells_when"  # the query asks when, and it speaks of a time
    ASKS = "asks"  # it is a question itself
    LENGTH = "length"  # how much it says, up to a point


LISTS_OF: Mapping[SearchMode, tuple[Signal, ...]] = {
    SearchMode.HYBRID: (Signal.DENSE, Signal.LEXICAL, Signal.WINDOW),
    SearchMode.DENSE: (Signal.DENSE,),
    SearchMode.LEXICAL: (Signal.LEXICAL, Signal.WINDOW),
}


@dataclass(frozen=True, slots=True)
class NumberBounds:
    """Bounds of a number in the metadata; None does not bound."""

    key: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be found: everything an item must match. The organization is part of it, always.

    Times bound the item's own time: `start_time` inclusive, `end_time` exclusive.
    """

    organization_id: uuid.UUID
    kind: MemoryKind
    agent_id: uuid.UUID | None = None
    conversation_id: uuid.UUID | None = None
    roles: tuple[str, ...] = ()
    tags_any: tuple[str, ...] = ()
    tags_all: tuple[str, ...] = ()
    tags_none: tuple[str, ...] = ()
    start_time: datetime | None = None
    end_time: datetime | None = None
    # Terms that all must match (see `metadata_terms`), one of each group, and none of those.
    metadata: tuple[str, ...] = ()
    metadata_any: tuple[tuple[str, ...], ...] = ()
    metadata_none: tuple[str, ...] = ()
    metadata_numbers: tuple[NumberBounds, ...] = ()
    # Passages only: what does not hold at this time, or is forgotten by now, is not found.
    valid_at: datetime | None = None
    # Messages of this conversation from this seq on are not found; 0 = all may be.
    exclude_conversation_id: uuid.UUID | None = None
    exclude_from_seq: int = 0


@dataclass(frozen=True, slots=True)
class SignalScore:
    """One signal's part in a hit: its own score, its rank from 1 (0 = not in that list), and what it added."""

    signal: Signal
    score: float
    rank: int
    contribution: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a conversation something was said, and by whom (empty when not known)."""

    conversation_id: uuid.UUID
    seq: int
    speaker: str = ""


class Searchable(Protocol):
    """What passages and messages have in common."""

    @property
    def id(self) -> uuid.UUID: ...
    @property
    def version(self) -> int: ...
    @property
    def ranked_text(self) -> str: ...
    @property
    def create_time(self) -> datetime: ...
    @property
    def place(self) -> Place | None: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """Of a row what its place in the order depends on."""

    id: uuid.UUID
    version: int
    ranked_text: str
    create_time: datetime
    place: Place | None = None


Item = TypeVar("Item", bound=Searchable)


@dataclass(frozen=True, slots=True)
class SearchResult(Generic[Item]):
    """A row that was found, with its score, parts, and neighbours in time order where asked for.

    `fused` is the part of the score that the lists gave, comparable between kinds of memory; `chunk` is the part of its
    text that fitted best, from 0.
    """

    item: Item
    score: float
    fused: float = 0.0
    chunk: int = 0
    signals: tuple[SignalScore, ...] = ()
    before: tuple[Item, ...] = ()
    after: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchPage(Generic[Item]):
    """The answer to one search. `degraded` = the vector index did not answer and Postgres alone did."""

    results: tuple[SearchResult[Item], ...] = ()
    degraded: bool = False
