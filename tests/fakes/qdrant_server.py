"""A small server of Qdrant's gRPC protocol with an Edge shard behind it, for one collection: what the server adapter calls.

The messages are qdrant-client's own stubs; what the adapter must not get wrong when it makes a collection is asserted here.
"""

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import grpc
import qdrant_edge as edge
from qdrant_client import AsyncQdrantClient
from qdrant_client import grpc as pb
from qdrant_client.conversions.conversion import json_to_value, value_to_json
from qdrant_client.grpc.collections_service_pb2_grpc import CollectionsServicer, add_CollectionsServicer_to_server
from qdrant_client.grpc.points_service_pb2_grpc import PointsServicer, add_PointsServicer_to_server

from memory_svc.adapters.qdrant_edge.shard import open_shard
from memory_svc.adapters.qdrant_layout import INTEGERS, KEYWORDS, SPARSE, TENANT
from memory_svc.adapters.qdrant_server import open_client

_DONE = pb.PointsOperationResponse(result=pb.UpdateResult(status=pb.Completed))


class QdrantServer(PointsServicer, CollectionsServicer):
    """Use it as an async context manager; `stop` ends it earlier, as an outage does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "shard"
        self._name = ""
        self._shard: Any = None
        self.indexes: dict[str, Any] = {}
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_PointsServicer_to_server(self, self._server)
        add_CollectionsServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self._shard is not None:
            self._shard.close()

    async def stop(self) -> None:
        await self._server.stop(grace=None)

    def client(self) -> AsyncQdrantClient:
        return open_client(self.url)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def CollectionExists(self, request: Any, context: Any) -> Any:
        return pb.CollectionExistsResponse(result=pb.CollectionExists(exists=request.collection_name == self._name))

    async def Create(self, request: Any, context: Any) -> Any:
        [(vector, parameters)] = request.vectors_config.params_map.map.items()
        assert (vector, parameters.distance) == ("dense", pb.Distance.Dot)
        sparse = request.sparse_vectors_config.map
        assert {name: sparse[name].modifier for name in sparse} == dict.fromkeys(SPARSE, pb.Modifier.Idf)
        self._shard = open_shard(self._folder, parameters.size, patience_s=0)
        self._name = request.collection_name
        return pb.CollectionOperationResponse(result=True)

    async def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        assert request.field_name in {TENANT, *KEYWORDS, *INTEGERS}
        is_tenant = request.field_index_params.keyword_index_params.is_tenant
        assert is_tenant == (request.field_name == TENANT)
        self.indexes[request.field_name] = request.field_type
        return _DONE

    async def Upsert(self, request: Any, context: Any) -> Any:
        points = [
            edge.Point(_id(point.id), _named(point.vectors), {k: value_to_json(v) for k, v in point.payload.items()})
            for point in request.points
        ]
        condition = _filter(request.update_filter) if request.HasField("update_filter") else None
        self._shard.update(edge.UpdateOperation.upsert_points(points, condition=condition))
        return _DONE

    async def UpdateVectors(self, request: Any, context: Any) -> Any:
        updates = [edge.PointVectors(_id(point.id), _named(point.vectors)) for point in request.points]
        self._shard.update(edge.UpdateOperation.update_vectors(updates))
        return _DONE

    async def Delete(self, request: Any, context: Any) -> Any:
        if request.points.HasField("filter"):
            operation = edge.UpdateOperation.delete_points_by_filter(_filter(request.points.filter))
        else:
            operation = edge.UpdateOperation.delete_points([_id(one) for one in request.points.points.ids])
        self._shard.update(operation)
        return _DONE

    async def QueryBatch(self, request: Any, context: Any) -> Any:
        queries = [
            edge.QueryRequest(
                limit=one.limit,
                query=edge.Query.Nearest(_vector(one.query.nearest), using=one.using),
                filter=_filter(one.filter),
                params=_params(one),
                with_payload=False,
            )
            for one in request.query_points
        ]
        answers = self._shard.query_batch(edge.QueryBatchRequest(queries))
        return pb.QueryBatchResponse(
            result=[
                pb.BatchResult(result=[pb.ScoredPoint(id=_wire_id(hit.id), score=hit.score) for hit in hits])
                for hits in answers
            ]
        )

    async def Get(self, request: Any, context: Any) -> Any:
        include = list(request.with_payload.include.fields)
        records = self._shard.retrieve(
            [_id(one) for one in request.ids], with_payload=include or False, with_vector=False
        )
        return pb.GetResponse(result=_retrieved(records))

    async def Scroll(self, request: Any, context: Any) -> Any:
        records, following = self._shard.scroll(
            edge.ScrollRequest(
                offset=_id(request.offset) if request.HasField("offset") else None,
                limit=request.limit,
                filter=_filter(request.filter),
                with_payload=list(request.with_payload.include.fields),
            )
        )
        return pb.ScrollResponse(
            result=_retrieved(records), next_page_offset=_wire_id(following) if following is not None else None
        )

    async def Count(self, request: Any, context: Any) -> Any:
        where = _filter(request.filter) if request.HasField("filter") else None
        count = self._shard.count(edge.CountRequest(filter=where, exact=True))
        return pb.CountResponse(result=pb.CountResult(count=count))


def _id(given: Any) -> uuid.UUID:
    return uuid.UUID(given.uuid)


def _wire_id(given: object) -> Any:
    return pb.PointId(uuid=str(given))


def _retrieved(records: Iterable[Any]) -> list[Any]:
    return [
        pb.RetrievedPoint(
            id=_wire_id(record.id), payload={k: json_to_value(v) for k, v in (record.payload or {}).items()}
        )
        for record in records
    ]


def _named(vectors: Any) -> dict[str, Any]:
    return {name: _vector(vector) for name, vector in vectors.vectors.vectors.items()}


def _vector(given: Any) -> Any:
    if given.HasField("sparse"):
        return edge.SparseVector(list(given.sparse.indices), list(given.sparse.values))
    return list(given.dense.data)


def _params(query: Any) -> Any:
    if not query.params.HasField("idf"):
        return None
    return edge.SearchParams(idf=edge.IdfParams(_filter(query.params.idf.corpus)))


def _filter(given: Any) -> Any:
    return edge.Filter(
        must=[_condition(one) for one in given.must], must_not=[_condition(one) for one in given.must_not]
    )


def _condition(given: Any) -> Any:
    if given.WhichOneof("condition_one_of") == "filter":
        return _filter(given.filter)
    field = given.field
    if field.HasField("range"):
        bounds = {name: getattr(field.range, name) for name in ("lt", "gt", "gte", "lte") if field.range.HasField(name)}
        return edge.FieldCondition(field.key, range=edge.RangeFloat(**bounds))
    match field.match.WhichOneof("match_value"):
        case "keyword":
            return edge.FieldCondition(field.key, match=edge.MatchValue(field.match.keyword))
        case "keywords":
            return edge.FieldCondition(field.key, match=edge.MatchAny(list(field.match.keywords.strings)))
        case other:
            raise AssertionError(f"a condition that this server does not know: {other}")
