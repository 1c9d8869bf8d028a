"""TrustedIssuerService on the wire."""

from typing import Any

from chassis import ids
from chassis.idempotency import Once, request_key
from chassis.identity import current
from chassis.pagination import PageTokens, page_size
from hearth.user.v1 import trusted_issuer_service_pb2 as pb
from hearth.user.v1.trusted_issuer_service_pb2_grpc import TrustedIssuerServiceServicer
from user_svc.domain.trusted_issuer import TrustedIssuer
from user_svc.interfaces.external_tokens import IssuerHealth
from user_svc.managers.trusted_issuer_manager import TrustedIssuerManager
from user_svc.servicers.issuer_mapping import issuer_change, issuer_draft, issuer_to_proto
from user_svc.servicers.paging import Page


class TrustedIssuerServicer(TrustedIssuerServiceServicer):
    """Messages in, messages out."""

    def __init__(self, issuers: TrustedIssuerManager, health: IssuerHealth, pages: PageTokens) -> None:
        self._issuers = issuers
        self._health = health
        self._pages = pages

    async def CreateTrustedIssuer(
        self, request: pb.CreateTrustedIssuerRequest, context: Any
    ) -> pb.CreateTrustedIssuerResponse:
        once = Once[TrustedIssuer](request_key(request), lambda made: _created(made).SerializeToString())
        return _created(await self._issuers.create(current(), issuer_draft(request), once))

    async def GetTrustedIssuer(self, request: pb.GetTrustedIssuerRequest, context: Any) -> pb.GetTrustedIssuerResponse:
        found = await self._issuers.get(current(), ids.decode("issuer", request.trusted_issuer_id))
        return pb.GetTrustedIssuerResponse(trusted_issuer=issuer_to_proto(found, self._health))

    async def ListTrustedIssuers(
        self, request: pb.ListTrustedIssuersRequest, context: Any
    ) -> pb.ListTrustedIssuersResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        found, more = await self._issuers.page(caller, page.after, page_size(request.page_size))
        return pb.ListTrustedIssuersResponse(
            trusted_issuers=[issuer_to_proto(one, self._health) for one in found],
            next_page_token=page.next(found[-1].id if found else None, more),
        )

    async def UpdateTrustedIssuer(
        self, request: pb.UpdateTrustedIssuerRequest, context: Any
    ) -> pb.UpdateTrustedIssuerResponse:
        given = request.trusted_issuer
        change = issuer_change(given, request.update_mask.paths)
        changed = await self._issuers.update(current(), ids.decode("issuer", given.id), change, given.etag)
        return pb.UpdateTrustedIssuerResponse(trusted_issuer=issuer_to_proto(changed, self._health))

    async def DeleteTrustedIssuer(
        self, request: pb.DeleteTrustedIssuerRequest, context: Any
    ) -> pb.DeleteTrustedIssuerResponse:
        await self._issuers.delete(current(), ids.decode("issuer", request.trusted_issuer_id))
        return pb.DeleteTrustedIssuerResponse()


def _created(issuer: TrustedIssuer) -> pb.CreateTrustedIssuerResponse:
    return pb.CreateTrustedIssuerResponse(trusted_issuer=issuer_to_proto(issuer))
