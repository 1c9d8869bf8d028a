"""Templates: recipes for agents, kept by name, every change a version."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hearth.agent.v1.agent_service_pb2 import CreateAgentRequest
from hearth.agent.v1.template_pb2 import Template
from hearth.agent.v1.template_service_pb2 import (
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    ListTemplateVersionsRequest,
    RenderTemplateRequest,
    UpsertTemplateRequest,
    UpsertTemplateResponse,
)
from hearth.agent.v1.template_service_pb2_grpc import TemplateServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.agent.v1.template_service_pb2_grpc import TemplateServiceAsyncStub


class Templates:
    """`client.templates`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> TemplateServiceAsyncStub:
        return TemplateServiceStub(self._connection.channel)

    async def upsert(self, name: str, document: str, *, etag: str = "", request_id: str = "") -> UpsertTemplateResponse:
        """Makes the template, or a new version of it. Raises InvalidArgumentError TEMPLATE_INVALID, AbortedError ETAG_MISMATCH."""
        request = UpsertTemplateRequest(
            request_id=request_id or new_request_id(), name=name, document=document, etag=etag
        )
        return await self._connection.call(self._stub.UpsertTemplate, request)

    async def get(self, name: str, version: int = 0) -> Template:
        """`version` 0: the newest. Raises NotFoundError."""
        request = GetTemplateRequest(name=name, version=version)
        return (await self._connection.call(self._stub.GetTemplate, request)).template

    def list(self, *, text: str = "", page_size: int = 0) -> AsyncIterator[Template]:
        """The newest version of each, without documents; only those with `text` in name or description."""

        async def fetch(token: str) -> tuple[Sequence[Template], str]:
            request = ListTemplatesRequest(text=text, page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListTemplates, request)
            return response.templates, response.next_page_token

        return pages(fetch)

    def versions(self, name: str, *, page_size: int = 0) -> AsyncIterator[Template]:
        """Newest first, without documents. Raises NotFoundError."""

        async def fetch(token: str) -> tuple[Sequence[Template], str]:
            request = ListTemplateVersionsRequest(name=name, page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListTemplateVersions, request)
            return response.templates, response.next_page_token

        return pages(fetch)

    async def delete(self, name: str) -> None:
        """Removes it with all versions; agents made of it stay. Twice is fine."""
        await self._connection.call(self._stub.DeleteTemplate, DeleteTemplateRequest(name=name))

    async def render(
        self, name: str = "", *, version: int = 0, document: str = "", variables: Mapping[str, str] | None = None
    ) -> CreateAgentRequest:
        """What a stored template, or a document, would make. Raises InvalidArgumentError."""
        request = RenderTemplateRequest(version=version, variables=variables)
        if document:
            request.document = document
        else:
            request.name = name
        return (await self._connection.call(self._stub.RenderTemplate, request)).agent


class BlockingTemplates(BlockingFace[Templates]):
    """`client.templates`, blocking."""

    upsert = call(Templates.upsert)
    get = call(Templates.get)
    list = iterate(Templates.list)
    versions = iterate(Templates.versions)
    delete = call(Templates.delete)
    render = call(Templates.render)
