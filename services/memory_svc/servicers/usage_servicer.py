"""UsageService on the wire."""

from typing import Any

from chassis.identity import current
from hearth.memory.internal.v1 import usage_service_pb2 as pb
from hearth.memory.internal.v1.usage_service_pb2_grpc import UsageServiceServicer
from memory_svc.managers.passage_manager import PassageManager


class UsageServicer(UsageServiceServicer):
    """Messages in, messages out."""

    def __init__(self, passages: PassageManager) -> None:
        self._passages = passages

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        return pb.GetUsageResponse(stored_passages=await self._passages.total(current().organization_id))
