"""ToolExecutionService on the wire."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from chassis import ids
from chassis.identity import current
from hearth.tool.v1 import tool_execution_service_pb2 as pb
from hearth.tool.v1.tool_execution_service_pb2_grpc import ToolExecutionServiceServicer
from tool_svc.managers.execution_manager import ExecutionManager, ExecutionResult, ToolCall
from tool_svc.servicers.mapping import chunk_to_proto, result_to_proto
from tool_svc.servicers.structs import from_struct


class ToolExecutionServicer(ToolExecutionServiceServicer):
    """Messages in, messages out."""

    def __init__(self, executions: ExecutionManager) -> None:
        self._executions = executions

    async def ExecuteTool(self, request: pb.ExecuteToolRequest, context: Any) -> AsyncIterator[pb.ExecuteToolResponse]:
        named = request.WhichOneof("by") == "name"
        call = ToolCall(
            tool=request.name if named else ids.decode("tool", request.tool_id),
            version=request.version,
            arguments=from_struct(request.arguments, "arguments"),
            request_id=request.request_id,
        )
        async with contextlib.aclosing(self._executions.execute(current(), call)) as events:
            async for event in events:
                yield result_to_proto(event) if isinstance(event, ExecutionResult) else chunk_to_proto(event)
