"""AuditService on the wire."""

from typing import Any

from chassis import ids
from chassis.identity import current
from chassis.pagination import PageTokens, fingerprint, page_size
from hearth.user.v1 import audit_event_pb2
from hearth.user.v1 import audit_service_pb2 as pb
from hearth.user.v1.audit_service_pb2_grpc import AuditServiceServicer
from user_svc.domain.audit_event import AuditEvent
from user_svc.interfaces.audit_log import AuditFilter
from user_svc.managers.audit_manager import AuditManager
from user_svc.servicers.mapping import moment, timestamp


class AuditServicer(AuditServiceServicer):
    """Messages in, messages out."""

    def __init__(self, audit: AuditManager, pages: PageTokens) -> None:
        self._audit = audit
        self._pages = pages

    async def ListAuditEvents(self, request: pb.ListAuditEventsRequest, context: Any) -> pb.ListAuditEventsResponse:
        caller = current()
        query = fingerprint(request, caller.organization_id, caller.subject)
        position = self._pages.verify(request.page_token, query)
        events, more = await self._audit.page(
            caller,
            _filter(request),
            None if position is None else int(position[0]),
            page_size(request.page_size),
            oldest_first=request.order == pb.AUDIT_ORDER_OLDEST_FIRST,
        )
        return pb.ListAuditEventsResponse(
            audit_events=[to_proto(event) for event in events],
            next_page_token=self._pages.sign(query, [events[-1].seq]) if more else "",
        )

    async def VerifyAuditLog(self, request: pb.VerifyAuditLogRequest, context: Any) -> pb.VerifyAuditLogResponse:
        found = await self._audit.verify(current(), request.after_seq)
        response = pb.VerifyAuditLogResponse(
            verified_count=found.verified_count,
            verified_seq=found.verified_seq,
            head_seq=found.head.seq,
            head_hash=found.head.hash.hex(),
        )
        if found.broken is not None:
            response.broken.seq = found.broken.seq
            response.broken.id = ids.encode("audit", found.broken.id) if found.broken.id else ""
            response.broken.reason = pb.AuditBreakReason.ValueType(found.broken.reason)
        return response


def _filter(request: pb.ListAuditEventsRequest) -> AuditFilter:
    return AuditFilter(
        actor=request.actor,
        on_behalf_of=request.on_behalf_of,
        action=request.action,
        resource=request.resource,
        outcome=request.outcome,
        request_id=request.request_id,
        from_time=moment(request.from_time, "from_time") if request.HasField("from_time") else None,
        to_time=moment(request.to_time, "to_time") if request.HasField("to_time") else None,
    )


def to_proto(event: AuditEvent) -> audit_event_pb2.AuditEvent:
    """As clients see it."""
    record = event.record
    return audit_event_pb2.AuditEvent(
        id=ids.encode("audit", record.id),
        organization_id=ids.encode("org", record.organization_id),
        seq=event.seq,
        actor=record.actor,
        on_behalf_of=record.on_behalf_of,
        action=record.action,
        resource=record.resource,
        outcome=record.outcome,
        count=record.count,
        request_id=record.request_id,
        create_time=timestamp(record.create_time),
        hash=event.hash.hex(),
    )
