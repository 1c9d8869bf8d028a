"""TemplateService on the wire."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import ParseDict

from agent_svc.domain.template import Template
from agent_svc.managers.template_manager import TemplateManager
from agent_svc.servicers.mapping import template_to_proto
from agent_svc.servicers.paging import Page
from chassis.idempotency import request_key
from chassis.identity import current
from chassis.once import Once
from chassis.pagination import PageTokens, page_size
from hearth.agent.v1 import agent_service_pb2
from hearth.agent.v1 import template_service_pb2 as pb
from hearth.agent.v1.template_service_pb2_grpc import TemplateServiceServicer


class TemplateServicer(TemplateServiceServicer):
    """Messages in, messages out."""

    def __init__(self, templates: TemplateManager, pages: PageTokens) -> None:
        self._templates = templates
        self._pages = pages

    async def UpsertTemplate(self, request: pb.UpsertTemplateRequest, context: Any) -> pb.UpsertTemplateResponse:
        once = Once[tuple[Template, bool]](request_key(request), lambda made: _upserted(*made).SerializeToString())
        made = await self._templates.upsert(current(), request.name, request.document, request.etag, once)
        return _upserted(*made)

    async def GetTemplate(self, request: pb.GetTemplateRequest, context: Any) -> pb.GetTemplateResponse:
        found = await self._templates.get(current(), request.name, request.version)
        return pb.GetTemplateResponse(template=template_to_proto(found))

    async def ListTemplates(self, request: pb.ListTemplatesRequest, context: Any) -> pb.ListTemplatesResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        found, more = await self._templates.page(caller, request.text, page.id, page_size(request.page_size))
        return pb.ListTemplatesResponse(
            templates=[template_to_proto(one, whole=False) for one in found],
            next_page_token=page.next(found[-1].id if found else None, more),
        )

    async def ListTemplateVersions(
        self, request: pb.ListTemplateVersionsRequest, context: Any
    ) -> pb.ListTemplateVersionsResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        found, more = await self._templates.versions(caller, request.name, page.seq, page_size(request.page_size))
        return pb.ListTemplateVersionsResponse(
            templates=[template_to_proto(one, whole=False) for one in found],
            next_page_token=page.next(found[-1].version if found else None, more),
        )

    async def DeleteTemplate(self, request: pb.DeleteTemplateRequest, context: Any) -> pb.DeleteTemplateResponse:
        await self._templates.delete(current(), request.name)
        return pb.DeleteTemplateResponse()

    async def RenderTemplate(self, request: pb.RenderTemplateRequest, context: Any) -> pb.RenderTemplateResponse:
        values = await self._templates.render(
            current(), request.name, request.version, request.document, request.variables
        )
        return pb.RenderTemplateResponse(agent=ParseDict(values, agent_service_pb2.CreateAgentRequest()))


def _upserted(template: Template, created: bool) -> pb.UpsertTemplateResponse:
    return pb.UpsertTemplateResponse(template=template_to_proto(template), created=created)
