"""UsageService on the wire."""

from __future__ import annotations

from typing import Any

from agent_svc.managers.run_manager import RunManager
from chassis.identity import current
from hearth.agent.internal.v1 import usage_service_pb2 as pb
from hearth.agent.internal.v1.usage_service_pb2_grpc import UsageServiceServicer


class UsageServicer(UsageServiceServicer):
    """Messages in, messages out."""

    def __init__(self, runs: RunManager) -> None:
        self._runs = runs

    async def GetUsage(self, request: pb.GetUsageRequest, context: Any) -> pb.GetUsageResponse:
        return pb.GetUsageResponse(active_runs=await self._runs.open_total(current()))
