"""UsageService on the wire."""

from typing import Any

from chassis.identity import current
from hearth.tool.internal.v1 import usage_service_pb2 as pb
from hearth.tool.internal.v1.usage_service_pb2_grpc import UsageServiceServicer
from tool_svc.managers.call_quota import CallQuota


class UsageServicer(UsageServiceServicer):
    """Messages in, messages out."""

    def __init__(self, quota: CallQuota) -> None:
        self._quota = quota

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        return pb.GetUsageResponse(tool_calls_last_minute=await self._quota.calls_last_minute(current()))
