"""VectorIndex on a Qdrant server, over gRPC. Any number of memory_svc processes may share one."""

import itertools
import uuid
from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import QdrantException
from qdrant_client.http.exceptions import ApiException

from chassis.errors import Unavailable
from memory_svc.adapters.qdrant_layout import (
    INTEGERS,
    KEYWORDS,
    SPARSE,
    TENANT,
    VECTOR_OF,
    collection_name,
    payload_of,
)
from memory_svc.adapters.qdrant_server.filters import (
    chunks_of,
    corpus_filter,
    not_newer_than,
    of_organization,
    scope_filter,
)
from memory_svc.domain.search import MemoryKind, Scope, Signal
from memory_svc.interfaces.embedder import SparseVector
from memory_svc.interfaces.vector_index import IndexedPoint, IndexPoint, ItemReference, ListQuery

Result = TypeVar("Result")

_TIMEOUT_S = 10
_FAILURES = (grpc.RpcError, QdrantException, ApiException, OSError, TimeoutError)


def open_client(url: str, api_key: str = "") -> AsyncQdrantClient:
    """A client of the server whose gRPC address this is; https:// means TLS. Nothing is connected yet."""
    address = urlsplit(url)
    return AsyncQdrantClient(
        host=address.hostname,
        grpc_port=address.port or 6334,
        https=address.scheme == "https",
        prefer_grpc=True,
        api_key=api_key or None,
        timeout=_TIMEOUT_S,
        check_compatibility=False,
    )


class QdrantServerIndex:
    """A collection for each embedding model. `client` is closed with the index."""

    def __init__(self, client: AsyncQdrantClient, *, model: str, dimensions: int) -> None:
        self._client = client
        self._dimensions = dimensions
        self.name = collection_name(model, dimensions)

    async def open(self) -> None:
        if not await _answered(self._client.collection_exists(self.name)):
            await self._create()

    async def close(self) -> None:
        await self._client.close()

    async def flush(self) -> None:
        """The server looks after itself."""

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        # One call has one condition, and the condition holds the version.
        by_version = sorted(points, key=lambda point: point.version)
        for version, group in itertools.groupby(by_version, key=lambda point: point.version):
            batch = [_engine_point(point) for point in group]
            await _answered(self._client.upsert(self.name, batch, update_filter=not_newer_than(version)))

    async def set_windows(self, windows: Mapping[uuid.UUID, SparseVector]) -> None:
        # Updating a vector of an absent point is an error, so those are dropped first.
        known = {_uuid(record.id) for record in await self._records(windows.keys(), [])}
        updates = [
            models.PointVectors(id=str(key), vector={"window": _engine_sparse(windows[key])})
            for key in windows
            if key in known
        ]
        if updates:
            await _answered(self._client.update_vectors(self.name, updates))

    async def delete_item(self, organization_id: uuid.UUID, item_id: uuid.UUID, *, first_chunk: int = 0) -> None:
        selector = models.FilterSelector(filter=chunks_of(organization_id, item_id, first_chunk))
        await _answered(self._client.delete(self.name, selector))

    async def delete_organization(self, organization_id: uuid.UUID) -> int:
        theirs = of_organization(organization_id)
        count = (await _answered(self._client.count(self.name, count_filter=theirs, exact=True))).count
        if count:
            selector = models.FilterSelector(filter=theirs)
            await _answered(self._client.delete(self.name, points_selector=selector, wait=True))
        return count

    async def delete_points(self, points: Collection[uuid.UUID]) -> None:
        if points:
            selector = models.PointIdsList(points=[str(point) for point in points])
            await _answered(self._client.delete(self.name, selector))

    async def search(
        self, scope: Scope, queries: Mapping[Signal, ListQuery], depth: int
    ) -> dict[Signal, dict[uuid.UUID, float]]:
        where, corpus = scope_filter(scope), corpus_filter(scope)
        # A query of stop words only has no words left; the server need not be asked.
        asked = {
            signal: query
            for signal, query in queries.items()
            if not isinstance(query, SparseVector) or len(query.indices) > 0
        }
        requests = [
            models.QueryRequest(
                query=_engine_sparse(query) if isinstance(query, SparseVector) else query.tolist(),
                using=VECTOR_OF[signal],
                filter=where,
                params=_within_corpus(corpus) if isinstance(query, SparseVector) else None,
                limit=depth,
                with_payload=False,
            )
            for signal, query in asked.items()
        ]
        found: dict[Signal, dict[uuid.UUID, float]] = {signal: {} for signal in queries}
        if requests:
            answers = await _answered(self._client.query_batch_points(self.name, requests))
            for signal, answer in zip(asked, answers, strict=True):
                found[signal] = {_uuid(hit.id): hit.score for hit in answer.points}
        return found

    async def resolve(self, points: Collection[uuid.UUID]) -> dict[uuid.UUID, ItemReference]:
        found: dict[uuid.UUID, ItemReference] = {}
        for record in await self._records(points, ["item_id", "chunk", "version"]):
            payload = record.payload or {}
            reference = ItemReference(uuid.UUID(payload["item_id"]), payload["chunk"], payload["version"])
            found[_uuid(record.id)] = reference
        return found

    async def scan(
        self, organization_id: uuid.UUID, after: uuid.UUID | None, size: int
    ) -> tuple[Sequence[IndexedPoint], uuid.UUID | None]:
        records, following = await _answered(
            self._client.scroll(
                self.name,
                scroll_filter=of_organization(organization_id),
                limit=size,
                offset=str(after) if after else None,
                with_payload=["kind", "item_id", "chunk", "version"],
            )
        )
        return [_indexed(record) for record in records], _uuid(following) if following is not None else None

    async def count(self) -> int:
        return (await _answered(self._client.count(self.name, exact=True))).count

    async def _records(self, points: Collection[uuid.UUID], payload: list[str]) -> Sequence[models.Record]:
        if not points:
            return []
        ids = [str(point) for point in points]
        return await _answered(self._client.retrieve(self.name, ids, with_payload=payload or False))

    async def _create(self) -> None:
        await _answered(
            self._client.create_collection(
                self.name,
                # Vectors have length 1 already, so the dot product is the cosine without scaling again.
                vectors_config={"dense": models.VectorParams(size=self._dimensions, distance=models.Distance.DOT)},
                sparse_vectors_config={
                    name: models.SparseVectorParams(modifier=models.Modifier.IDF) for name in SPARSE
                },
            )
        )
        tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
        schemas: dict[str, models.PayloadSchemaType | models.KeywordIndexParams] = {
            TENANT: tenant,
            **dict.fromkeys(KEYWORDS, models.PayloadSchemaType.KEYWORD),
            **dict.fromkeys(INTEGERS, models.PayloadSchemaType.INTEGER),
        }
        for name, schema in schemas.items():
            await _answered(self._client.create_payload_index(self.name, name, schema))


async def _answered(call: Awaitable[Result]) -> Result:
    try:
        return await call
    except _FAILURES as error:
        raise Unavailable(
            "the vector index does not answer", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0
        ) from error


def _engine_point(point: IndexPoint) -> models.PointStruct:
    vectors: dict[str, models.Vector] = {
        "dense": point.dense.tolist(),
        "lexical": _engine_sparse(point.lexical),
        "window": _engine_sparse(point.window),
    }
    return models.PointStruct(id=str(point.point_id), vector=vectors, payload=payload_of(point))


def _engine_sparse(vector: SparseVector) -> models.SparseVector:
    return models.SparseVector(indices=list(vector.indices), values=list(vector.values))


def _within_corpus(corpus: models.Filter) -> models.SearchParams:
    return models.SearchParams(idf=models.IdfCorpusParams(corpus=corpus))


def _indexed(record: models.Record) -> IndexedPoint:
    payload = record.payload or {}
    return IndexedPoint(
        _uuid(record.id),
        MemoryKind(payload["kind"]),
        ItemReference(uuid.UUID(payload["item_id"]), payload["chunk"], payload["version"]),
    )


def _uuid(value: object) -> uuid.UUID:
    return uuid.UUID(str(value))
