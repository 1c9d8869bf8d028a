"""Search where the parts around it misbehave: hand-written stand-ins for the index and the shelf."""

import uuid
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from chassis.errors import InvalidArgument, Unavailable
from memory_svc.domain.search import MemoryKind, Place, Scope, SearchMode, Signal
from memory_svc.interfaces.embedder import DenseVector, SparseVector, Urgency
from memory_svc.interfaces.vector_index import ItemReference
from memory_svc.managers.hybrid_search import HybridSearch

ORGANIZATION = uuid.UUID(int=7)
SCOPE = Scope(ORGANIZATION, MemoryKind.PASSAGE)


@dataclass(frozen=True)
class Note:
    id: uuid.UUID
    ranked_text: str
    version: int = 1
    create_time: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    place: Place | None = None


@dataclass
class Shelf:
    """Rows as Postgres has them, and those that wait for the index."""

    rows: dict[uuid.UUID, Note] = field(default_factory=dict[uuid.UUID, Note])
    waiting: list[Note] = field(default_factory=list[Note])

    async def load(self, scope: Scope, item_ids: Collection[uuid.UUID]) -> Mapping[uuid.UUID, Note]:
        return {key: self.rows[key] for key in item_ids if key in self.rows}

    async def candidates(self, scope: Scope, item_ids: Collection[uuid.UUID]) -> Mapping[uuid.UUID, Note]:
        return await self.load(scope, item_ids)

    async def pending(self, scope: Scope, size: int) -> Sequence[Note]:
        return self.waiting[:size]

    async def by_words(self, scope: Scope, query: str, size: int) -> Sequence[tuple[Note, float]]:
        return [(row, 1.0) for row in self.rows.values() if query in row.ranked_text][:size]


@dataclass
class Index:
    """An index that says what it is told to."""

    lists: dict[Signal, dict[uuid.UUID, float]] = field(default_factory=dict[Signal, dict[uuid.UUID, float]])
    references: dict[uuid.UUID, ItemReference] = field(default_factory=dict[uuid.UUID, ItemReference])
    down: bool = False
    depths: list[int] = field(default_factory=list[int])

    async def search(
        self, scope: Scope, queries: Mapping[Signal, Any], depth: int
    ) -> dict[Signal, dict[uuid.UUID, float]]:
        if self.down:
            raise Unavailable("down", reason="DEPENDENCY_UNAVAILABLE")
        self.depths.append(depth)
        return {signal: dict(list(self.lists.get(signal, {}).items())[:depth]) for signal in queries}

    async def resolve(self, points: Collection[uuid.UUID]) -> dict[uuid.UUID, ItemReference]:
        return {point: self.references[point] for point in points if point in self.references}


class Embedder:
    """Letters as dimensions."""

    async def embed(self, texts: Sequence[str], urgency: Urgency) -> list[DenseVector]:
        vectors = [np.array([text.count(letter) + 0.01 for letter in "abcdefgh"], np.float32) for text in texts]
        return [(vector / np.linalg.norm(vector)).astype(np.float32) for vector in vectors]


class Words:
    """Words as numbers."""

    def document(self, text: str) -> SparseVector:
        indices = sorted({hash(word) & 0xFFFF for word in text.lower().split()})
        return SparseVector(indices, [1.0] * len(indices))

    query = document


class Progress:
    is_caught_up = False
    is_filled = True

    def poke(self) -> None:
        pass

    async def wait_applied(self, organization_id: uuid.UUID, position: int, timeout_s: float) -> bool:
        return True


class Work:
    @asynccontextmanager
    async def begin(self, organization_id: uuid.UUID | None) -> AsyncGenerator[None]:
        assert organization_id == ORGANIZATION
        yield


def stage(index: Index, shelf: Any) -> HybridSearch:
    work: Any = Work()
    store: Any = index
    return HybridSearch(work, shelf, store, _embedder(), Words(), Progress())


def _embedder() -> Any:
    return Embedder()


async def found(shelf: Shelf, index: Index, query: str, **options: Any) -> list[str]:
    page = await stage(index, shelf).search(lambda _: shelf, SCOPE, query, **options)
    return [result.item.ranked_text for result in page.results]


def stored(shelf: Shelf, index: Index, number: int, text: str, score: float, *, indexed_version: int = 1) -> None:
    key = uuid.UUID(int=number)
    shelf.rows[key] = Note(key, text)
    point = uuid.UUID(int=1000 + number)
    index.references[point] = ItemReference(key, 0, indexed_version)
    index.lists.setdefault(Signal.LEXICAL, {})[point] = score


async def test_what_postgres_does_not_have_is_dropped() -> None:
    shelf, index = Shelf(), Index()
    stored(shelf, index, 1, "gone", 9.0)
    stored(shelf, index, 2, "here", 1.0)
    del shelf.rows[uuid.UUID(int=1)]
    assert await found(shelf, index, "x") == ["here"]


async def test_a_point_of_another_version_is_dropped() -> None:
    shelf, index = Shelf(), Index()
    stored(shelf, index, 1, "old words were indexed", 9.0, indexed_version=0)
    stored(shelf, index, 2, "here", 1.0)
    assert await found(shelf, index, "x") == ["here"]


async def test_over_fetching_still_fills_top_k() -> None:
    shelf, index = Shelf(), Index()
    for number in range(1, 151):
        stored(shelf, index, number, f"note {number}", float(200 - number))
        if number <= 120:
            del shelf.rows[uuid.UUID(int=number)]
    assert len(await found(shelf, index, "x", top_k=20)) == 20
    # Words and meaning are asked for on their own at first.
    assert index.depths == [100, 100, 400]


async def test_one_item_has_one_place_however_many_chunks_match() -> None:
    shelf, index = Shelf(), Index()
    stored(shelf, index, 1, "long", 9.0)
    for chunk in range(1, 5):
        point = uuid.UUID(int=5000 + chunk)
        index.references[point] = ItemReference(uuid.UUID(int=1), chunk, 1)
        index.lists[Signal.LEXICAL][point] = 9.0 + chunk
    stored(shelf, index, 2, "short", 1.0)
    page = await stage(index, shelf).search(lambda _: shelf, SCOPE, "x")
    assert [(result.item.ranked_text, result.chunk) for result in page.results] == [("long", 4), ("short", 0)]


async def test_rows_that_wait_for_the_index_are_found() -> None:
    shelf, index = Shelf(), Index()
    stored(shelf, index, 2, "zzz", 1.0)
    waiting = Note(uuid.UUID(int=3), "fresh words")
    shelf.waiting.append(waiting)
    assert (await found(shelf, index, "fresh words"))[0] == "fresh words"
    assert (await found(shelf, index, "fresh words", mode=SearchMode.DENSE)) == ["fresh words"]
    assert await found(shelf, index, "nothing alike", mode=SearchMode.LEXICAL) == ["zzz"]


async def test_identifiers_come_before_better_scores() -> None:
    shelf, index = Shelf(), Index()
    stored(shelf, index, 1, "about ERR-48211-C38 in detail", 50.0)
    stored(shelf, index, 2, "ERR-48211-C37", 1.0)
    assert (await found(shelf, index, "tell me of ERR-48211-C37"))[0] == "ERR-48211-C37"


async def test_without_the_index_words_find_and_it_says_so() -> None:
    shelf, index = Shelf(), Index(down=True)
    stored(shelf, index, 1, "a rare word", 1.0)
    page = await stage(index, shelf).search(lambda _: shelf, SCOPE, "rare")
    assert page.degraded
    assert [result.item.ranked_text for result in page.results] == ["a rare word"]


@pytest.mark.parametrize("query", ["", " ", "\n\t"])
async def test_a_blank_query_is_refused(query: str) -> None:
    with pytest.raises(InvalidArgument):
        await found(Shelf(), Index(), query)
