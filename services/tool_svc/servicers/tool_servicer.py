"""ToolService on the wire."""

from typing import Any

from chassis import ids
from chassis.idempotency import Once, request_key
from chassis.identity import current
from chassis.pagination import PageTokens, fingerprint, page_size
from hearth.tool.v1 import tool_service_pb2 as pb
from hearth.tool.v1.tool_service_pb2_grpc import ToolServiceServicer
from tool_svc.domain.tool import Tool
from tool_svc.managers.tool_manager import ToolManager
from tool_svc.servicers.mapping import (
    change_from_proto,
    draft_from_proto,
    filter_from_proto,
    tool_to_proto,
    version_to_proto,
)
from tool_svc.servicers.structs import to_struct


class ToolServicer(ToolServiceServicer):
    """Messages in, messages out."""

    def __init__(self, tools: ToolManager, pages: PageTokens) -> None:
        self._tools = tools
        self._pages = pages

    async def CreateTool(self, request: pb.CreateToolRequest, context: Any) -> pb.CreateToolResponse:
        once: Once[Tool] = Once(request_key(request), lambda made: _created(made).SerializeToString())
        return _created(await self._tools.create(current(), draft_from_proto(request.tool), once))

    async def UpsertTool(self, request: pb.UpsertToolRequest, context: Any) -> pb.UpsertToolResponse:
        once: Once[tuple[Tool, bool]] = Once(request_key(request), lambda made: _upserted(made).SerializeToString())
        return _upserted(await self._tools.upsert(current(), draft_from_proto(request.tool), once))

    async def GetTool(self, request: pb.GetToolRequest, context: Any) -> pb.GetToolResponse:
        if request.WhichOneof("by") == "name":
            return pb.GetToolResponse(tool=tool_to_proto(await self._tools.named(current(), request.name)))
        tool = await self._tools.get(current(), ids.decode("tool", request.tool_id))
        return pb.GetToolResponse(tool=tool_to_proto(tool))

    async def ListTools(self, request: pb.ListToolsRequest, context: Any) -> pb.ListToolsResponse:
        caller = current()
        query = fingerprint(request, caller.organization_id)
        position = self._pages.verify(request.page_token, query)
        after = None if position is None else str(position[0])
        found, more = await self._tools.page(caller, filter_from_proto(request), after, page_size(request.page_size))
        return pb.ListToolsResponse(
            tools=[tool_to_proto(tool) for tool in found],
            next_page_token=self._pages.sign(query, [found[-1].name]) if more else "",
        )

    async def UpdateTool(self, request: pb.UpdateToolRequest, context: Any) -> pb.UpdateToolResponse:
        tool_id = ids.decode("tool", request.tool.id)
        change = change_from_proto(request.tool, request.update_mask.paths)
        changed = await self._tools.update(current(), tool_id, change, request.tool.etag)
        return pb.UpdateToolResponse(tool=tool_to_proto(changed))

    async def DeleteTool(self, request: pb.DeleteToolRequest, context: Any) -> pb.DeleteToolResponse:
        await self._tools.delete(current(), ids.decode("tool", request.tool_id))
        return pb.DeleteToolResponse()

    async def ListToolVersions(self, request: pb.ListToolVersionsRequest, context: Any) -> pb.ListToolVersionsResponse:
        caller = current()
        query = fingerprint(request, caller.organization_id)
        position = self._pages.verify(request.page_token, query)
        before = None if position is None else int(position[0])
        tool_id = ids.decode("tool", request.tool_id)
        found, more = await self._tools.versions(caller, tool_id, before, page_size(request.page_size))
        return pb.ListToolVersionsResponse(
            tool_versions=[version_to_proto(version) for version in found],
            next_page_token=self._pages.sign(query, [found[-1].tool.version]) if more else "",
        )

    async def DeriveToolSchema(self, request: pb.DeriveToolSchemaRequest, context: Any) -> pb.DeriveToolSchemaResponse:
        derived = await self._tools.derive(request.source_code)
        return pb.DeriveToolSchemaResponse(
            name=derived.entry_point, description=derived.description, parameters=to_struct(derived.parameters)
        )


def _created(tool: Tool) -> pb.CreateToolResponse:
    return pb.CreateToolResponse(tool=tool_to_proto(tool))


def _upserted(result: tuple[Tool, bool]) -> pb.UpsertToolResponse:
    return pb.UpsertToolResponse(tool=tool_to_proto(result[0]), created=result[1])
