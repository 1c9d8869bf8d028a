"""OrganizationService on the wire."""

from typing import Any

from chassis import ids
from chassis.idempotency import Once, request_key
from chassis.identity import current
from chassis.pagination import PageTokens, page_size
from hearth.user.v1 import organization_service_pb2 as pb
from hearth.user.v1.organization_service_pb2_grpc import OrganizationServiceServicer
from user_svc.domain.organization import Organization
from user_svc.managers.limit_manager import LimitManager
from user_svc.managers.organization_manager import OrganizationManager
from user_svc.servicers.mapping import optional_id, organization_change, organization_to_proto
from user_svc.servicers.paging import Page
from user_svc.servicers.usage_mapping import purge_to_proto, usage_to_proto


class OrganizationServicer(OrganizationServiceServicer):
    """Messages in, messages out."""

    def __init__(self, organizations: OrganizationManager, limits: LimitManager, pages: PageTokens) -> None:
        self._organizations = organizations
        self._limits = limits
        self._pages = pages

    async def CreateOrganization(
        self, request: pb.CreateOrganizationRequest, context: Any
    ) -> pb.CreateOrganizationResponse:
        once = Once[Organization](request_key(request), lambda made: _created(made).SerializeToString())
        return _created(await self._organizations.create(current(), request.name, request.display_name, once))

    async def GetOrganization(self, request: pb.GetOrganizationRequest, context: Any) -> pb.GetOrganizationResponse:
        wanted = optional_id("org", request.organization_id)
        found = await self._organizations.get(current(), wanted, request.include_deleted)
        organization = organization_to_proto(found)
        if (purge := purge_to_proto(found)) is not None:
            organization.purge.CopyFrom(purge)
        if request.include_usage and (usage := await self._limits.usage(found)) is not None:
            organization.usage.CopyFrom(usage_to_proto(usage, self._limits.in_force(found)))
        return pb.GetOrganizationResponse(organization=organization)

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
        wanted = ids.decode("org", request.organization_id)
        await self._organizations.delete(current(), wanted, request.purge_now)
        return pb.DeleteOrganizationResponse()


def _created(organization: Organization) -> pb.CreateOrganizationResponse:
    return pb.CreateOrganizationResponse(organization=organization_to_proto(organization))
