"""tool_svc as agent_svc sees it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import grpc
import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct

from agent_svc.clients.calling import answered
from agent_svc.domain.conversation import ToolCallOutcome
from agent_svc.domain.tool import UNKNOWN_OUTCOME, Tool, ToolResult, failed
from chassis import ids
from chassis.errors import DomainError, NotFound, Unavailable
from chassis.status import from_rpc_error
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from hearth.tool.v1 import tool_pb2, tool_service_pb2
from hearth.tool.v1.tool_execution_service_pb2_grpc import ToolExecutionServiceStub
from hearth.tool.v1.tool_service_pb2_grpc import ToolServiceStub

_MAX_IDS = 200
# Errors of tool_svc's own that say nothing of what the tool had done by then.
_EFFECT_UNKNOWN = ("SandboxLost", "Cancelled", "McpConnectionLost")
_CONNECT_TIMEOUT_S = 2.0
# What an answer means when it came before anything ran: the call certainly did not begin.
_REFUSALS = ("INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "PERMISSION_DENIED", "UNAUTHENTICATED")


class ToolClient:
    """Implements interfaces.tools.ToolCatalog and ToolExecutor.

    `execution_channel` must not repeat calls by itself: a call that broke off may have begun.
    """

    def __init__(self, channel: grpc.aio.Channel, execution_channel: grpc.aio.Channel) -> None:
        self._tools = ToolServiceStub(channel)
        self._execution_channel = execution_channel
        self._execution = ToolExecutionServiceStub(execution_channel)

    async def get_many(self, tool_ids: Sequence[UUID]) -> Sequence[Tool]:
        found: list[Tool] = []
        for start in range(0, len(tool_ids), _MAX_IDS):
            request = tool_service_pb2.ListToolsRequest(
                tool_ids=[ids.encode("tool", tool_id) for tool_id in tool_ids[start : start + _MAX_IDS]],
                page_size=_MAX_IDS,
            )
            # Pages end early when sources are large.
            while True:
                answer = await answered(self._tools.ListTools(request))
                found += [_tool(tool) for tool in answer.tools]
                request.page_token = answer.next_page_token
                if not request.page_token:
                    break
        return found

    async def resolve(self, reference: str) -> Tool:
        """An id first; what is no id, or of no tool, may be a name."""
        if reference.startswith("tool_"):
            try:
                return await self._get(tool_service_pb2.GetToolRequest(tool_id=reference))
            except NotFound:
                if len(reference) > 64:
                    raise
        try:
            return await self._get(tool_service_pb2.GetToolRequest(name=reference[:64]))
        except NotFound:
            raise NotFound(
                f"tool {reference} was not found", reason="RESOURCE_NOT_FOUND", metadata={"resource": reference}
            ) from None

    async def _get(self, request: tool_service_pb2.GetToolRequest) -> Tool:
        return _tool((await answered(self._tools.GetTool(request))).tool)

    async def execute(self, tool: Tool, arguments_json: str, request_id: str) -> ToolResult:
        assert tool.id is not None
        request = execution_pb.ExecuteToolRequest(
            request_id=request_id, tool_id=ids.encode("tool", tool.id), version=tool.version
        )
        try:
            ParseDict(msgspec.json.decode(arguments_json), request.arguments)
        except (ParseError, msgspec.DecodeError, ValueError, RecursionError):
            return failed("The arguments cannot be read: they must be one JSON object, not nested too deeply.")
        await self._connected()
        return await self._run(request)

    async def _connected(self) -> None:
        """Raises Unavailable while there is no connection: what is sent afterwards may have begun, whatever happens."""
        if self._execution_channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self._execution_channel.channel_ready()
        except TimeoutError:
            raise Unavailable("tool_svc does not answer", reason="DEPENDENCY_UNAVAILABLE") from None

    async def _run(self, request: execution_pb.ExecuteToolRequest) -> ToolResult:
        call = self._execution.ExecuteTool(request)
        try:
            async for response in call:
                if response.HasField("result"):
                    return _result(response.result)
        except grpc.aio.AioRpcError as error:
            return _refused(from_rpc_error(error))
        finally:
            call.cancel()
        return UNKNOWN_OUTCOME


def _refused(error: DomainError) -> ToolResult:
    if error.code in _REFUSALS:
        return failed(f"The tool was not run: {error.message}.")
    if error.reason == "QUOTA_EXCEEDED":
        wait = f"; try again in {math.ceil(error.retry_after_s)} s" if error.retry_after_s else ""
        return failed(f"The tool was not run: {error.message}{wait}.")
    if error.code == "RESOURCE_EXHAUSTED":
        # Refused at the door: it may be tried again.
        raise error
    return UNKNOWN_OUTCOME


def _result(result: execution_pb.ToolExecutionResult) -> ToolResult:
    if result.state == execution_pb.TOOL_EXECUTION_STATE_SUCCEEDED:
        return ToolResult(ToolCallOutcome.SUCCEEDED, result.text)
    if result.error.type in _EFFECT_UNKNOWN:
        return UNKNOWN_OUTCOME
    explained = f"{result.error.type}: {result.error.message}" if result.error.type else result.error.message
    parts = [explained or "The tool failed.", result.error.traceback, result.text]
    return failed("\n".join(part for part in parts if part))


def _tool(tool: tool_pb2.Tool) -> Tool:
    return Tool(
        name=tool.name,
        description=tool.description,
        parameters=_schema(tool.parameters),
        id=ids.decode("tool", tool.id),
        version=tool.version,
        idempotent=tool.settings.idempotent,
        requires_approval=tool.settings.requires_approval,
    )


def _schema(parameters: Struct) -> dict[str, Any]:
    """Not in the path of a turn: schemas are kept by version. Numbers in a Struct are floats; whole ones become ints."""
    return _whole(MessageToDict(parameters)) or {"type": "object", "properties": {}}


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value
