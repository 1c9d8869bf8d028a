"""RevocationService on the wire."""

from typing import Any

from hearth.user.internal.v1 import revocation_service_pb2 as pb
from hearth.user.internal.v1.revocation_service_pb2_grpc import RevocationServiceServicer
from user_svc.domain.revocation import Revocation
from user_svc.managers.revocation_manager import RevocationManager
from user_svc.servicers.mapping import timestamp


class RevocationServicer(RevocationServiceServicer):
    """Messages in, messages out."""

    def __init__(self, revocations: RevocationManager) -> None:
        self._revocations = revocations

    async def ListRevocations(self, request: pb.ListRevocationsRequest, context: Any) -> pb.ListRevocationsResponse:
        found = await self._revocations.after(request.after_position)
        position = found[-1].position if found else request.after_position
        return pb.ListRevocationsResponse(revocations=[_to_proto(one) for one in found], position=position)


def _to_proto(one: Revocation) -> pb.Revocation:
    message = pb.Revocation(subject=one.subject, expire_time=timestamp(one.expire_time))
    if one.void_before is not None:
        message.void_before.CopyFrom(timestamp(one.void_before))
    return message
