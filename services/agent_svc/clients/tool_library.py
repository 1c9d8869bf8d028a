"""tool_svc's tools as sources, for exports and imports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from agent_svc.clients.calling import answered
from agent_svc.interfaces.agent_specs import BadSpec, SpecFault
from agent_svc.interfaces.tools import ToolSource
from chassis import ids
from chassis.errors import InvalidArgument, NotFound
from chassis.validation import check
from hearth.tool.v1 import tool_pb2
from hearth.tool.v1 import tool_service_pb2 as pb
from hearth.tool.v1.tool_service_pb2_grpc import ToolServiceStub


class ToolLibraryClient:
    """Implements interfaces.tools.ToolLibrary."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._tools = ToolServiceStub(channel)

    async def sources(self, tool_ids: Sequence[UUID]) -> Sequence[ToolSource]:
        found: list[ToolSource] = []
        for tool_id in tool_ids:
            source = await self._get(pb.GetToolRequest(tool_id=ids.encode("tool", tool_id)))
            if source is not None:
                found.append(source)
        return found

    async def named(self, name: str) -> ToolSource | None:
        return await self._get(pb.GetToolRequest(name=name[:64]))

    async def checked(self, name: str, spec: dict[str, Any]) -> ToolSource:
        try:
            wanted = ParseDict(spec, pb.ToolSpec())
            check(wanted)
        except InvalidArgument as error:
            raise BadSpec([SpecFault("", error.message)]) from None
        except (ParseError, ValueError, TypeError, RecursionError, AttributeError):
            raise BadSpec([SpecFault("", "is not what a tool is made of")]) from None
        if wanted.name != name:
            raise BadSpec([SpecFault("name", "is not the record's name")])
        await answered(self._tools.DeriveToolSchema(pb.DeriveToolSchemaRequest(source_code=wanted.source_code)))
        return ToolSource(name, _spec(wanted))

    async def put(self, source: ToolSource) -> None:
        request = pb.UpsertToolRequest(tool=ParseDict(source.spec or {}, pb.ToolSpec()))
        await answered(self._tools.UpsertTool(request))

    async def _get(self, request: pb.GetToolRequest) -> ToolSource | None:
        try:
            tool = (await answered(self._tools.GetTool(request))).tool
        except NotFound:
            return None
        if tool.kind != tool_pb2.TOOL_KIND_PYTHON:
            return ToolSource(tool.name, None)
        spec = pb.ToolSpec(
            name=tool.name,
            description=tool.description,
            source_code=tool.source_code,
            parameters=tool.parameters,
            tags=tool.tags,
            settings=tool.settings,
        )
        return ToolSource(tool.name, _spec(spec))


def _spec(spec: pb.ToolSpec) -> dict[str, Any]:
    return MessageToDict(spec, preserving_proto_field_name=True)
