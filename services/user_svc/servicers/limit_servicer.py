"""LimitService on the wire."""

from typing import Any

from chassis import ids
from hearth.user.internal.v1 import limit_service_pb2 as pb
from hearth.user.internal.v1.limit_service_pb2_grpc import LimitServiceServicer
from user_svc.managers.limit_manager import LimitManager


class LimitServicer(LimitServiceServicer):
    """Messages in, messages out."""

    def __init__(self, limits: LimitManager) -> None:
        self._limits = limits

    async def ListLimits(self, request: pb.ListLimitsRequest, context: Any) -> pb.ListLimitsResponse:
        found = await self._limits.after(request.after_position)
        return pb.ListLimitsResponse(
            defaults=self._limits.defaults,
            organizations=[
                pb.LimitsOfOrganization(organization_id=ids.encode("org", one.organization_id), values=one.values)
                for one in found
            ],
            position=found[-1].position if found else request.after_position,
        )
