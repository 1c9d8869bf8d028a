"""IndexService on the wire."""

from collections.abc import AsyncIterator
from typing import Any

from chassis.identity import current
from hearth.memory.v1 import index_service_pb2 as pb
from hearth.memory.v1.index_service_pb2_grpc import IndexServiceServicer
from memory_svc.managers.index_manager import IndexManager


class IndexServicer(IndexServiceServicer):
    """Messages in, messages out."""

    def __init__(self, index: IndexManager) -> None:
        self._index = index

    async def GetIndexStatus(self, request: pb.GetIndexStatusRequest, context: Any) -> pb.GetIndexStatusResponse:
        status = await self._index.status(current().organization_id)
        return pb.GetIndexStatusResponse(
            waiting_count=status.waiting,
            lag_seconds=status.lag_s,
            model=status.model,
            dimensions=status.dimensions,
            filled=status.filled,
        )

    async def ReconcileIndex(
        self, request: pb.ReconcileIndexRequest, context: Any
    ) -> AsyncIterator[pb.ReconcileIndexResponse]:
        async for found in self._index.reconcile(current().organization_id, repair=not request.dry_run):
            yield pb.ReconcileIndexResponse(
                point_count=found.points,
                item_count=found.items,
                orphaned_count=found.orphaned,
                stale_count=found.stale,
                missing_count=found.missing,
            )

    async def ReindexMemory(self, request: pb.ReindexMemoryRequest, context: Any) -> pb.ReindexMemoryResponse:
        queued, token = await self._index.reindex(current().organization_id)
        return pb.ReindexMemoryResponse(queued_count=queued, consistency_token=token)
