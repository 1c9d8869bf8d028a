"""Makes points of rows: chunks, embeddings, words, and the window around each chunk."""

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from memory_svc.domain.chunking import chunks, window, window_places
from memory_svc.domain.messages import RecallMessage, Span
from memory_svc.domain.passages import Metadata, Passage, key_term, metadata_terms
from memory_svc.domain.search import MemoryKind, Searchable
from memory_svc.interfaces.embedder import DenseVector, Embedder, LexicalEncoder, SparseVector, Urgency
from memory_svc.interfaces.unit_of_work import UnitOfWork
from memory_svc.interfaces.vector_index import IndexPoint, VectorIndex, point_id

# Embeddings in one batch: about two seconds of work. One item may have more.
_MOST_CHUNKS = 128
# Of a message (a tool may print a book) the first 45,000 characters are searchable.
MOST_MESSAGE_CHUNKS = 64
# So many messages on each side can be part of a window.
_REACH = 6
# Messages of one conversation further apart than this are looked at on their own.
_GAP = 50

Row = TypeVar("Row", bound=Searchable)


@dataclass(frozen=True, slots=True)
class _Piece:
    """One chunk of a message, in the order of the conversation."""

    message: RecallMessage
    chunk: int
    text: str


@dataclass(frozen=True, slots=True)
class PreparedDocuments:
    """What is to be written of some items: those taken, those gone, and of changed ones how many chunks they have now."""

    organization_id: uuid.UUID
    kind: MemoryKind
    taken: frozenset[uuid.UUID]
    gone: frozenset[uuid.UUID]
    points: Sequence[IndexPoint]
    windows: Mapping[uuid.UUID, SparseVector] = field(default_factory=dict[uuid.UUID, SparseVector])
    chunk_counts: Mapping[uuid.UUID, int] = field(default_factory=dict[uuid.UUID, int])


class IndexDocuments:
    """Brings the points of items up to date with their rows."""

    def __init__(
        self,
        work: UnitOfWork,
        index: VectorIndex,
        embedder: Embedder,
        lexical: LexicalEncoder,
        window_lexical: LexicalEncoder,
    ) -> None:
        self._work = work
        self._index = index
        self._embedder = embedder
        self._lexical = lexical
        self._window_lexical = window_lexical

    async def prepare(
        self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Collection[uuid.UUID]
    ) -> PreparedDocuments:
        """Reads the items as they are now and makes their points: all the work that changes nothing."""
        if kind is MemoryKind.PASSAGE:
            return await self._prepare_passages(organization_id, item_ids)
        return await self._prepare_messages(organization_id, item_ids)

    async def write(self, prepared: PreparedDocuments) -> Collection[uuid.UUID]:
        """Puts the points into the index; items that are gone leave the index and the database.

        Returns the items that it got to: all, unless their texts are so long that some are left for another call.
        """
        await self._index.upsert(prepared.points)
        await self._index.set_windows(prepared.windows)
        for item_id, count in prepared.chunk_counts.items():
            await self._index.delete_item(prepared.organization_id, item_id, first_chunk=count)
        await self._remove(prepared.organization_id, prepared.kind, prepared.gone)
        return prepared.taken | prepared.gone

    async def _prepare_passages(self, organization_id: uuid.UUID, item_ids: Collection[uuid.UUID]) -> PreparedDocuments:
        async with self._work.begin(organization_id) as transaction:
            rows = await transaction.passages.for_index(item_ids)
        taken = _within_budget(rows)
        texts = {passage.id: chunks(passage.ranked_text) for passage in taken}
        # All at once, so that texts of like length can be embedded together.
        vectors = iter(
            await self._embedder.embed([text for pieces in texts.values() for text in pieces], Urgency.INDEXING)
        )
        points = [
            point
            for passage in taken
            for point in self._passage_points(passage, texts[passage.id], [next(vectors) for _ in texts[passage.id]])
        ]
        return PreparedDocuments(
            organization_id,
            MemoryKind.PASSAGE,
            frozenset(texts),
            frozenset(item_ids) - rows.keys(),
            points,
            chunk_counts={passage.id: len(texts[passage.id]) for passage in taken if passage.version > 1},
        )

    def _passage_points(
        self, passage: Passage, texts: Sequence[str], vectors: Sequence[DenseVector]
    ) -> list[IndexPoint]:
        return [
            IndexPoint(
                organization_id=passage.organization_id,
                kind=MemoryKind.PASSAGE,
                item_id=passage.id,
                chunk=chunk,
                version=passage.version,
                dense=vector,
                lexical=self._lexical.document(text),
                window=self._window_lexical.document(window(texts, chunk)),
                agent_id=passage.agent_id,
                time_ms=_milliseconds(passage.create_time),
                tags=passage.tags,
                metadata=(*metadata_terms(passage.metadata), *map(key_term, passage.metadata)),
                numbers=_numbers(passage.metadata),
                valid_from_ms=_optional_milliseconds(passage.valid_from),
                valid_to_ms=_optional_milliseconds(passage.valid_to),
                expire_ms=_optional_milliseconds(passage.expire_time),
            )
            for chunk, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        ]

    async def _prepare_messages(self, organization_id: uuid.UUID, item_ids: Collection[uuid.UUID]) -> PreparedDocuments:
        async with self._work.begin(organization_id) as transaction:
            rows = await transaction.messages.for_index(item_ids)
        taken = frozenset(message.id for message in _within_budget(rows))
        runs = _runs([message for message in rows.values() if message.id in taken])
        points, windows = await self._message_points(organization_id, runs)
        gone = frozenset(item_ids) - rows.keys()
        return PreparedDocuments(organization_id, MemoryKind.MESSAGE, taken, gone, points, windows)

    async def _message_points(
        self, organization_id: uuid.UUID, runs: Sequence[Sequence[RecallMessage]]
    ) -> tuple[list[IndexPoint], Mapping[uuid.UUID, SparseVector]]:
        """Points of messages that follow each other, and new windows of those around them; many runs at once."""
        if not runs:
            return [], {}
        spans = [Span(run[0].conversation_id, run[0].seq, run[-1].seq) for run in runs]
        async with self._work.begin(organization_id) as transaction:
            arounds = await transaction.messages.around(spans, _REACH)
        places: list[tuple[list[_Piece], list[int]]] = []
        for run, around in zip(runs, arounds, strict=True):
            pieces = _pieces(around)
            mine = {message.id for message in run}
            places.append((pieces, [at for at, piece in enumerate(pieces) if piece.message.id in mine]))
        texts = [pieces[at].text for pieces, new in places for at in new]
        vectors = iter(await self._embedder.embed(texts, Urgency.INDEXING))
        points = [self._message_point(pieces, at, next(vectors)) for pieces, new in places for at in new]
        windows: dict[uuid.UUID, SparseVector] = {}
        for pieces, new in places:
            windows |= self._windows_around(organization_id, pieces, new)
        return points, windows

    def _message_point(self, pieces: Sequence[_Piece], at: int, vector: DenseVector) -> IndexPoint:
        message = pieces[at].message
        return IndexPoint(
            organization_id=message.organization_id,
            kind=MemoryKind.MESSAGE,
            item_id=message.id,
            chunk=pieces[at].chunk,
            version=message.version,
            dense=vector,
            lexical=self._lexical.document(pieces[at].text),
            window=self._window([piece.text for piece in pieces], at),
            agent_id=message.agent_id,
            time_ms=_milliseconds(message.create_time),
            conversation_id=message.conversation_id,
            seq=message.seq,
            role=message.role,
        )

    def _windows_around(
        self, organization_id: uuid.UUID, pieces: Sequence[_Piece], new: Sequence[int]
    ) -> Mapping[uuid.UUID, SparseVector]:
        """The windows of the older messages that now have new neighbours."""
        texts = [piece.text for piece in pieces]
        known = set(new)
        near = {at + step for at in new for step in range(-_REACH, _REACH + 1)} - known
        return {
            point_id(organization_id, pieces[at].message.id, pieces[at].chunk): self._window(texts, at)
            for at in near
            if 0 <= at < len(pieces) and not known.isdisjoint(window_places(texts, at))
        }

    def _window(self, texts: Sequence[str], at: int) -> SparseVector:
        return self._window_lexical.document(window(texts, at))

    async def _remove(self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Collection[uuid.UUID]) -> None:
        """First from the index, then the rows that were kept until now."""
        if not item_ids:
            return
        for item_id in item_ids:
            await self._index.delete_item(organization_id, item_id)
        async with self._work.begin(organization_id) as transaction:
            if kind is MemoryKind.PASSAGE:
                await transaction.passages.purge(item_ids)
            else:
                await transaction.messages.purge(item_ids)


def _pieces(messages: Sequence[RecallMessage]) -> list[_Piece]:
    return [
        _Piece(message, chunk, text)
        for message in messages
        for chunk, text in enumerate(chunks(message.ranked_text)[:MOST_MESSAGE_CHUNKS])
    ]


def _within_budget(rows: Mapping[uuid.UUID, Row]) -> list[Row]:
    """As many rows as one batch may embed, at least one."""
    taken: list[Row] = []
    total = 0
    for row in rows.values():
        total += len(chunks(row.ranked_text))
        if taken and total > _MOST_CHUNKS:
            break
        taken.append(row)
    return taken


def _runs(messages: Sequence[RecallMessage]) -> list[list[RecallMessage]]:
    """Messages by conversation, in order, split where they are far apart."""
    by_conversation: dict[uuid.UUID, list[RecallMessage]] = defaultdict(list)
    for message in sorted(messages, key=lambda message: message.seq):
        by_conversation[message.conversation_id].append(message)
    runs: list[list[RecallMessage]] = []
    for ordered in by_conversation.values():
        runs.append([])
        for message in ordered:
            if runs[-1] and message.seq - runs[-1][-1].seq > _GAP:
                runs.append([])
            runs[-1].append(message)
    return runs


def _numbers(metadata: Metadata) -> dict[str, float]:
    return {key: float(value) for key, value in metadata.items() if not isinstance(value, str | bool)}


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _optional_milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else _milliseconds(moment)
