"""AuditService on the wire: designed, and not kept yet."""

from typing import Any

from chassis.errors import not_implemented
from hearth.user.v1 import audit_service_pb2 as pb
from hearth.user.v1.audit_service_pb2_grpc import AuditServiceServicer


class AuditServicer(AuditServiceServicer):
    """Answers that there is no audit log yet, rather than an empty one."""

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Any) -> pb.ListAuditEventsResponse:
        raise not_implemented("the audit log")
