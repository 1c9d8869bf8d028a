"""What agent_svc asks of tool_svc."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from agent_svc.clients.tool_client import ToolClient
from agent_svc.domain.conversation import ToolCallOutcome
from agent_svc.domain.tool import Tool
from chassis import ids
from hearth.tool.v1 import tool_pb2, tool_service_pb2
from hearth.tool.v1.tool_execution_service_pb2 import ExecuteToolRequest, ExecuteToolResponse
from hearth.tool.v1.tool_execution_service_pb2_grpc import (
    ToolExecutionServiceServicer,
    add_ToolExecutionServiceServicer_to_server,
)


class _Refuses(ToolExecutionServiceServicer):
    """A ToolExecutionService that takes no arguments as they are."""

    async def ExecuteTool(
        self, request: ExecuteToolRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[ExecuteToolResponse]:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "arguments.n: 'two' is not of type 'integer'")
        yield ExecuteToolResponse()  # makes this a stream


async def test_arguments_that_break_the_schema_are_told_as_a_call_that_was_not_run() -> None:
    server = grpc.aio.server()
    add_ToolExecutionServiceServicer_to_server(_Refuses(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            tool = Tool("add", "", {"type": "object"}, ids.new(), 1)
            result = await ToolClient(channel, channel).execute(tool, '{"n": "two"}', "request")
    finally:
        await server.stop(None)
    assert result.outcome is ToolCallOutcome.FAILED
    assert result.text == "The tool was not run: arguments.n: 'two' is not of type 'integer'."


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
