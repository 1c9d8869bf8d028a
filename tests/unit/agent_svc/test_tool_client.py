"""What agent_svc asks of tool_svc."""

import uuid
from typing import Any

import grpc

from agent_svc.clients.tool_client import ToolClient
from chassis import ids
from hearth.tool.v1 import tool_pb2, tool_service_pb2


class _Pages:
    """A ToolService that gives one tool a page, as it does when sources are large."""

    async def ListTools(self, request: tool_service_pb2.ListToolsRequest) -> tool_service_pb2.ListToolsResponse:
        place = int(request.page_token or "0")
        tool = tool_pb2.Tool(id=request.tool_ids[place], name=f"tool_{place}", version=1)
        more = place + 1 < len(request.tool_ids)
        return tool_service_pb2.ListToolsResponse(tools=[tool], next_page_token=str(place + 1) if more else "")


async def test_no_page_of_tools_is_left_out() -> None:
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        client: Any = ToolClient(channel, channel)
        client._tools = _Pages()
        wanted = [ids.new() for _ in range(3)]
        found = await client.get_many(wanted)
    assert [tool.id for tool in found] == wanted
    assert all(isinstance(tool.id, uuid.UUID) for tool in found)
