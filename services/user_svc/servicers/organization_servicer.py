"""OrganizationService on the wire."""

from typing import Any

from chassis import ids
from chassis.idempotency import Once, request_key
from chassis.identity import current
from chassis.pagination import PageTokens, page_size
from hearth.user.v1 import organization_service_pb2 as pb
from hearth.user.v1.organization_service_pb2_grpc import OrganizationServiceServicer
from user_svc.domain.organization import Organization
from user_svc.managers.organization_manager import OrganizationManager
from user_svc.servicers.mapping import optional_id, organization_change, organization_to_proto
from user_svc.servicers.paging import Page


class OrganizationServicer(OrganizationServiceServicer):
    """Messages in, messages out."""

    def __init__(self, organizations: OrganizationManager, pages: PageTokens) -> None:
        self._organizations = organizations
        self._pages = pages

    async def CreateOrganization(
        self, request: pb.CreateOrganizationRequest, context: Any
    ) -> pb.CreateOrganizationResponse:
        once = Once[Organization](request_key(request), lambda made: _created(made).SerializeToString())
        return _created(await self._organizations.create(current(), request.name, request.display_name, once))

    async def GetOrganization(self, request: pb.GetOrganizationRequest, context: Any) -> pb.GetOrganizationResponse:
        found = await self._organizations.get(current(), optional_id("org", request.organization_id))
        return pb.GetOrganizationResponse(organization=organization_to_proto(found))

    async def ListOrganizations(
        self, request: pb.ListOrganizationsRequest, context: Any
    ) -> pb.ListOrganizationsResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        found, more = await self._organizations.page(caller, page.after, page_size(request.page_size))
        return pb.ListOrganizationsResponse(
            organizations=[organization_to_proto(one) for one in found],
            next_page_token=page.next(found[-1].id if found else None, more),
        )

    async def UpdateOrganization(
        self, request: pb.UpdateOrganizationRequest, context: Any
    ) -> pb.UpdateOrganizationResponse:
        given = request.organization
        change = organization_change(given, request.update_mask.paths)
        changed = await self._organizations.update(current(), ids.decode("org", given.id), change, given.etag)
        return pb.UpdateOrganizationResponse(organization=organization_to_proto(changed))

    async def DeleteOrganization(
        self, request: pb.DeleteOrganizationRequest, context: Any
    ) -> pb.DeleteOrganizationResponse:
        await self._organizations.delete(current(), ids.decode("org", request.organization_id))
        return pb.DeleteOrganizationResponse()


def _created(organization: Organization) -> pb.CreateOrganizationResponse:
    return pb.CreateOrganizationResponse(organization=organization_to_proto(organization))
