"""Who did what: the audit log of the caller's organization."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from hearth.user.v1.audit_event_pb2 import AuditEvent
from hearth.user.v1.audit_service_pb2 import (
    AUDIT_ORDER_NEWEST_FIRST,
    AUDIT_ORDER_OLDEST_FIRST,
    ListAuditEventsRequest,
    VerifyAuditLogRequest,
    VerifyAuditLogResponse,
)
from hearth.user.v1.audit_service_pb2_grpc import AuditServiceStub
from hearth_client._audit_chain import AuditVerdict, Mark, verify
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.user.v1.audit_service_pb2_grpc import AuditServiceAsyncStub

_LARGE_PAGE = 200


class Audit:
    """`client.audit`; for organization administrators."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> AuditServiceAsyncStub:
        return AuditServiceStub(self._connection.channel)

    def list(
        self,
        *,
        actor: str = "",
        on_behalf_of: str = "",
        action: str = "",
        resource: str = "",
        outcome: str = "",
        request_id: str = "",
        from_time: datetime | None = None,
        to_time: datetime | None = None,
        oldest_first: bool = False,
        page_size: int = 0,
    ) -> AsyncIterator[AuditEvent]:
        """Records, newest first; only those that fit what is given."""
        wanted = ListAuditEventsRequest(
            actor=actor,
            on_behalf_of=on_behalf_of,
            action=action,
            resource=resource,
            outcome=outcome,
            request_id=request_id,
            from_time=_timestamp(from_time),
            to_time=_timestamp(to_time),
            order=AUDIT_ORDER_OLDEST_FIRST if oldest_first else AUDIT_ORDER_NEWEST_FIRST,
            page_size=page_size,
        )

        async def fetch(token: str) -> tuple[Sequence[AuditEvent], str]:
            wanted.page_token = token
            response = await self._connection.call(self._stub.ListAuditEvents, wanted)
            return response.audit_events, response.next_page_token

        return pages(fetch)

    async def verify(self, expected: Mark | None = None) -> AuditVerdict:
        """Reads the whole log and recomputes its chain here. `expected` is a record that it must have, noted elsewhere before."""
        return await verify(self.list(oldest_first=True, page_size=_LARGE_PAGE), expected)

    async def verify_on_server(self, after_seq: int = 0) -> VerifyAuditLogResponse:
        """What the server says of its own log; at most 20,000 records a call."""
        request = VerifyAuditLogRequest(after_seq=after_seq)
        return await self._connection.call(self._stub.VerifyAuditLog, request)


class BlockingAudit(BlockingFace[Audit]):
    """`client.audit`, blocking."""

    list = iterate(Audit.list)
    verify = call(Audit.verify)
    verify_on_server = call(Audit.verify_on_server)


def _timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    result = Timestamp()
    result.FromDatetime(moment)
    return result
