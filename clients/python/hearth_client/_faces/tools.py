"""Tools: push source, see what became of it, run it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct

from hearth.tool.v1.tool_execution_service_pb2 import ExecuteToolRequest, ExecuteToolResponse
from hearth.tool.v1.tool_execution_service_pb2_grpc import ToolExecutionServiceStub
from hearth.tool.v1.tool_pb2 import Tool, ToolKind, ToolSettings, ToolVersion
from hearth.tool.v1.tool_service_pb2 import (
    CreateToolRequest,
    DeleteToolRequest,
    DeriveToolSchemaRequest,
    DeriveToolSchemaResponse,
    GetToolRequest,
    ListToolsRequest,
    ListToolVersionsRequest,
    ToolSpec,
    UpdateToolRequest,
    UpsertToolRequest,
    UpsertToolResponse,
)
from hearth.tool.v1.tool_service_pb2_grpc import ToolServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages
from hearth_client._tool_decorator import options_of, source_of

if TYPE_CHECKING:
    from hearth.tool.v1.tool_execution_service_pb2_grpc import ToolExecutionServiceAsyncStub
    from hearth.tool.v1.tool_service_pb2_grpc import ToolServiceAsyncStub


class Tools:
    """`client.tools`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> ToolServiceAsyncStub:
        return ToolServiceStub(self._connection.channel)

    @functools.cached_property
    def _execution(self) -> ToolExecutionServiceAsyncStub:
        return ToolExecutionServiceStub(self._connection.channel)

    async def create(
        self,
        source_code: str,
        *,
        name: str = "",
        description: str = "",
        parameters: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        settings: ToolSettings | None = None,
        request_id: str = "",
    ) -> Tool:
        """A new tool from Python source: its last top-level function. Name, description and schema come from the function unless given.
        Raises AlreadyExistsError NAME_TAKEN, InvalidArgumentError TOOL_SOURCE_INVALID or TOOL_SCHEMA_INVALID.
        """
        spec = _spec(source_code, name, description, parameters, tags, settings)
        request = CreateToolRequest(request_id=request_id or new_request_id(), tool=spec)
        return (await self._connection.call(self._stub.CreateTool, request)).tool

    async def upsert(
        self,
        source_code: str,
        *,
        name: str = "",
        description: str = "",
        parameters: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        settings: ToolSettings | None = None,
        request_id: str = "",
    ) -> UpsertToolResponse:
        """As `create`, but changes the tool of this name if there is one. `.tool`, and `.created`: whether it is new."""
        spec = _spec(source_code, name, description, parameters, tags, settings)
        request = UpsertToolRequest(request_id=request_id or new_request_id(), tool=spec)
        return await self._connection.call(self._stub.UpsertTool, request)

    async def push(self, function: Callable[..., Any], *, request_id: str = "") -> UpsertToolResponse:
        """A function of this program as a tool, made or changed; `@hearth_client.tool` says how it is called and runs. What it uses of its
        module goes along. Raises ValueError for a function without source, and as `upsert`.
        """
        options = options_of(function)
        return await self.upsert(
            source_of(function),
            name=options.name,
            description=options.description,
            tags=options.tags,
            settings=options.settings(),
            request_id=request_id,
        )

    async def get(self, tool_id: str = "", *, name: str = "") -> Tool:
        """By id or by name. Raises NotFoundError."""
        request = GetToolRequest(name=name) if name else GetToolRequest(tool_id=tool_id)
        return (await self._connection.call(self._stub.GetTool, request)).tool

    def list(
        self,
        *,
        name_prefix: str = "",
        tags: Iterable[str] = (),
        kind: ToolKind.ValueType = ToolKind.TOOL_KIND_UNSPECIFIED,
        tool_ids: Iterable[str] = (),
        page_size: int = 0,
    ) -> AsyncIterator[Tool]:
        """By name; those that meet all conditions. `tool_ids` (at most 200) picks those; unknown ones are left out."""
        wanted, ids = tuple(tags), tuple(tool_ids)

        async def fetch(token: str) -> tuple[Sequence[Tool], str]:
            request = ListToolsRequest(
                name_prefix=name_prefix, tags=wanted, kind=kind, tool_ids=ids, page_size=page_size, page_token=token
            )
            response = await self._connection.call(self._stub.ListTools, request)
            return response.tools, response.next_page_token

        return pages(fetch)

    async def update(self, tool: Tool, *paths: str) -> Tool:
        """Changes the fields named by `paths`. Raises AbortedError ETAG_MISMATCH if its etag is set and stale."""
        request = UpdateToolRequest(tool=tool, update_mask=FieldMask(paths=paths))
        return (await self._connection.call(self._stub.UpdateTool, request)).tool

    async def delete(self, tool_id: str) -> None:
        """Removes a tool. Twice is fine."""
        await self._connection.call(self._stub.DeleteTool, DeleteToolRequest(tool_id=tool_id))

    def versions(self, tool_id: str, *, page_size: int = 0) -> AsyncIterator[ToolVersion]:
        """What a tool was, newest first."""

        async def fetch(token: str) -> tuple[Sequence[ToolVersion], str]:
            request = ListToolVersionsRequest(tool_id=tool_id, page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListToolVersions, request)
            return response.tool_versions, response.next_page_token

        return pages(fetch)

    async def derive(self, source_code: str) -> DeriveToolSchemaResponse:
        """What name, description and schema a source would get; nothing is run or stored."""
        request = DeriveToolSchemaRequest(source_code=source_code)
        return await self._connection.call(self._stub.DeriveToolSchema, request)

    def execute(
        self,
        tool_id: str = "",
        arguments: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        version: int = 0,
        request_id: str = "",
    ) -> AsyncIterator[ExecuteToolResponse]:
        """Runs a tool: its output as it comes, last its result. A tool's own error is a result. Leaving early kills the call. Never retried:
        a tool may act on the world.
        """
        request = ExecuteToolRequest(request_id=request_id or new_request_id(), version=version)
        if name:
            request.name = name
        else:
            request.tool_id = tool_id
        request.arguments.update(arguments or {})

        async def responses() -> AsyncIterator[ExecuteToolResponse]:
            async for response in self._connection.stream(self._execution.ExecuteTool, request):
                yield response

        return responses()


class BlockingTools(BlockingFace[Tools]):
    """`client.tools`, blocking."""

    create = call(Tools.create)
    upsert = call(Tools.upsert)
    push = call(Tools.push)
    get = call(Tools.get)
    list = iterate(Tools.list)
    update = call(Tools.update)
    delete = call(Tools.delete)
    versions = iterate(Tools.versions)
    derive = call(Tools.derive)
    execute = iterate(Tools.execute)


def _spec(
    source_code: str,
    name: str,
    description: str,
    parameters: Mapping[str, Any] | None,
    tags: Iterable[str],
    settings: ToolSettings | None,
) -> ToolSpec:
    schema = None
    if parameters is not None:
        schema = Struct()
        schema.update(parameters)
    return ToolSpec(
        name=name,
        description=description,
        source_code=source_code,
        parameters=schema,
        tags=tags,
        settings=settings,
    )
