"""PurgeService on the wire."""

from typing import Any

from chassis import ids
from chassis.identity import current
from hearth.user.internal.v1 import purge_service_pb2 as pb
from hearth.user.internal.v1.purge_service_pb2_grpc import PurgeServiceServicer
from user_svc.managers.purge_manager import PurgeManager, service_of


class PurgeServicer(PurgeServiceServicer):
    """Messages in, messages out."""

    def __init__(self, purges: PurgeManager) -> None:
        self._purges = purges

    async def ListPurges(self, request: pb.ListPurgesRequest, context: Any) -> pb.ListPurgesResponse:
        due = await self._purges.due(service_of(current()))
        return pb.ListPurgesResponse(organization_ids=[ids.encode("org", one) for one in due])

    async def ReportPurge(self, request: pb.ReportPurgeRequest, context: Any) -> pb.ReportPurgeResponse:
        organization_id = ids.decode("org", request.organization_id)
        await self._purges.report(service_of(current()), organization_id, dict(request.removed))
        return pb.ReportPurgeResponse()
