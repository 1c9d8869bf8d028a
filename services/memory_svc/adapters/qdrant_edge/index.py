"""VectorIndex on Qdrant Edge. The engine is synchronous and owned by one process: all calls go through one thread."""

import asyncio
import itertools
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from qdrant_edge import (
    CountRequest,
    EdgeShard,
    IdfParams,
    Point,
    PointVectors,
    Query,
    QueryBatchRequest,
    QueryRequest,
    Record,
    ScrollRequest,
    SearchParams,
    UpdateOperation,
)
from qdrant_edge import SparseVector as EdgeSparseVector

from chassis.errors import DomainError, Unavailable
from memory_svc.adapters.qdrant_edge.filters import (
    chunks_of,
    corpus_filter,
    not_newer_than,
    of_organization,
    scope_filter,
)
from memory_svc.adapters.qdrant_edge.shard import open_shard
from memory_svc.adapters.qdrant_layout import VECTOR_OF, collection_name, payload_of
from memory_svc.domain.search import MemoryKind, Scope, Signal
from memory_svc.interfaces.embedder import SparseVector
from memory_svc.interfaces.vector_index import IndexedPoint, IndexPoint, ItemReference, ListQuery

Result = TypeVar("Result")


class QdrantEdgeIndex:
    """A shard under `root`, in a folder of its own for each embedding model.

    Exactly one process can hold it; `open` waits up to `patience_s` seconds for a predecessor to let go.
    """

    def __init__(self, root: Path, *, model: str, dimensions: int, patience_s: float = 10.0) -> None:
        self._folder = root / collection_name(model, dimensions)
        self._dimensions = dimensions
        self._patience_s = patience_s
        self._shard: EdgeShard | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qdrant-edge")

    @property
    def name(self) -> str:
        return self._folder.name

    async def open(self) -> None:
        if self._shard is not None:
            return
        loop = asyncio.get_running_loop()
        self._shard = await loop.run_in_executor(
            self._thread, lambda: open_shard(self._folder, self._dimensions, patience_s=self._patience_s)
        )

    async def close(self) -> None:
        shard, self._shard = self._shard, None
        if shard is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, _flush_and_close, shard)
        self._thread.shutdown(wait=True)

    async def flush(self) -> None:
        await self._call(lambda shard: shard.flush())

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        await self._call(lambda shard: _upsert(shard, points))

    async def set_windows(self, windows: Mapping[uuid.UUID, SparseVector]) -> None:
        await self._call(lambda shard: _set_windows(shard, windows))

    async def delete_item(self, organization_id: uuid.UUID, item_id: uuid.UUID, *, first_chunk: int = 0) -> None:
        operation = UpdateOperation.delete_points_by_filter(chunks_of(organization_id, item_id, first_chunk))
        await self._call(lambda shard: shard.update(operation))

    async def delete_organization(self, organization_id: uuid.UUID) -> int:
        return await self._call(lambda shard: _delete_organization(shard, organization_id))

    async def search(
        self, scope: Scope, queries: Mapping[Signal, ListQuery], depth: int
    ) -> dict[Signal, dict[uuid.UUID, float]]:
        return await self._call(lambda shard: _search(shard, scope, queries, depth))

    async def resolve(self, points: Collection[uuid.UUID]) -> dict[uuid.UUID, ItemReference]:
        return await self._call(lambda shard: _resolve(shard, points)) if points else {}

    async def delete_points(self, points: Collection[uuid.UUID]) -> None:
        if points:
            operation = UpdateOperation.delete_points(list(points))
            await self._call(lambda shard: shard.update(operation))

    async def scan(
        self, organization_id: uuid.UUID, after: uuid.UUID | None, size: int
    ) -> tuple[Sequence[IndexedPoint], uuid.UUID | None]:
        request = ScrollRequest(
            offset=after,
            limit=size,
            filter=of_organization(organization_id),
            with_payload=["kind", "item_id", "chunk", "version"],
        )
        records, following = await self._call(lambda shard: shard.scroll(request))
        return [_indexed(record) for record in records], _uuid(following) if following is not None else None

    async def count(self) -> int:
        return await self._call(lambda shard: shard.count(CountRequest(exact=True)))

    async def _call(self, work: Callable[[EdgeShard], Result]) -> Result:
        shard = self._shard
        if shard is None:
            raise _unavailable()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, shard)
        except DomainError:
            raise
        except Exception as error:  # the engine raises bare Exception for everything
            raise _unavailable() from error


def _unavailable() -> Unavailable:
    return Unavailable("the vector index does not answer", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0)


def _flush_and_close(shard: EdgeShard) -> None:
    shard.flush()
    shard.close()


def _upsert(shard: EdgeShard, points: Sequence[IndexPoint]) -> None:
    # One operation has one condition, and the condition holds the version.
    by_version = sorted(points, key=lambda point: point.version)
    for version, group in itertools.groupby(by_version, key=lambda point: point.version):
        batch = [_engine_point(point) for point in group]
        shard.update(UpdateOperation.upsert_points(batch, condition=not_newer_than(version)))


def _engine_point(point: IndexPoint) -> Point:
    vectors = {
        "dense": point.dense.tolist(),
        "lexical": _engine_sparse(point.lexical),
        "window": _engine_sparse(point.window),
    }
    return Point(point.point_id, vectors, payload_of(point))


def _engine_sparse(vector: SparseVector) -> EdgeSparseVector:
    return EdgeSparseVector(list(vector.indices), list(vector.values))


def _set_windows(shard: EdgeShard, windows: Mapping[uuid.UUID, SparseVector]) -> None:
    # Updating a vector of an absent point is an error, so those are dropped first.
    known = {_uuid(record.id) for record in shard.retrieve(list(windows), with_payload=False, with_vector=False)}
    updates = [PointVectors(key, {"window": _engine_sparse(windows[key])}) for key in windows if key in known]
    if updates:
        shard.update(UpdateOperation.update_vectors(updates))


def _delete_organization(shard: EdgeShard, organization_id: uuid.UUID) -> int:
    theirs = of_organization(organization_id)
    count = shard.count(CountRequest(filter=theirs, exact=True))
    if count:
        shard.update(UpdateOperation.delete_points_by_filter(theirs))
        shard.flush()
    return count


def _search(
    shard: EdgeShard, scope: Scope, queries: Mapping[Signal, ListQuery], depth: int
) -> dict[Signal, dict[uuid.UUID, float]]:
    where, corpus = scope_filter(scope), corpus_filter(scope)
    asked = {signal: query for signal, query in queries.items() if _says_something(query)}
    requests = [
        QueryRequest(
            limit=depth,
            query=_engine_query(signal, query),
            filter=where,
            params=SearchParams(idf=IdfParams(corpus)) if isinstance(query, SparseVector) else None,
            with_payload=False,
        )
        for signal, query in asked.items()
    ]
    found: dict[Signal, dict[uuid.UUID, float]] = {signal: {} for signal in queries}
    if requests:
        for signal, hits in zip(asked, shard.query_batch(QueryBatchRequest(requests)), strict=True):
            found[signal] = {_uuid(hit.id): hit.score for hit in hits}
    return found


def _says_something(query: ListQuery) -> bool:
    """A query of stop words only has no words left; the engine need not be asked."""
    return not isinstance(query, SparseVector) or len(query.indices) > 0


def _engine_query(signal: Signal, query: ListQuery) -> Query:
    vector = _engine_sparse(query) if isinstance(query, SparseVector) else query.tolist()
    return Query.Nearest(vector, using=VECTOR_OF[signal])


def _resolve(shard: EdgeShard, points: Collection[uuid.UUID]) -> dict[uuid.UUID, ItemReference]:
    records = shard.retrieve(list(points), with_payload=["item_id", "chunk", "version"], with_vector=False)
    found: dict[uuid.UUID, ItemReference] = {}
    for record in records:
        payload = record.payload or {}
        found[_uuid(record.id)] = ItemReference(uuid.UUID(payload["item_id"]), payload["chunk"], payload["version"])
    return found


def _indexed(record: Record) -> IndexedPoint:
    payload = record.payload or {}
    return IndexedPoint(
        _uuid(record.id),
        MemoryKind(payload["kind"]),
        ItemReference(uuid.UUID(payload["item_id"]), payload["chunk"], payload["version"]),
    )


def _uuid(value: int | uuid.UUID | str) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(str(value))
