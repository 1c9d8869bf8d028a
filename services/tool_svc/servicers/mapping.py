"""Domain ⇄ protobuf."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from chassis import ids, validation
from chassis.errors import DomainError
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from hearth.tool.v1 import tool_pb2, tool_service_pb2
from tool_svc.domain.execution import OutputChunk, OutputStream
from tool_svc.domain.tool import Tool, ToolChange, ToolDraft, ToolFilter, ToolKind, ToolSettings, ToolVersion
from tool_svc.managers.execution_manager import ExecutionResult, ExecutionState
from tool_svc.servicers.structs import clean, from_struct, to_struct, to_value

_STREAMS = {
    OutputStream.STDOUT: execution_pb.OUTPUT_STREAM_STDOUT,
    OutputStream.STDERR: execution_pb.OUTPUT_STREAM_STDERR,
}
_OPTIONAL_SETTINGS = ("return_limit", "timeout_ms", "memory_mib", "output_kib", "requires_approval", "idempotent")


def tool_to_proto(tool: Tool) -> tool_pb2.Tool:
    """As clients see it."""
    content = tool.content
    return tool_pb2.Tool(
        id=ids.encode("tool", tool.id),
        organization_id=ids.encode("org", tool.organization_id),
        name=tool.name,
        description=content.description,
        kind=tool_pb2.ToolKind.ValueType(tool.kind.value),
        source_code=content.source_code,
        parameters=to_struct(content.parameters),
        tags=content.tags,
        settings=_settings_to_proto(content.settings),
        version=tool.version,
        create_time=timestamp(tool.create_time),
        update_time=timestamp(tool.update_time),
        etag=tool.etag,
    )


def version_to_proto(version: ToolVersion) -> tool_pb2.ToolVersion:
    """As clients see it."""
    return tool_pb2.ToolVersion(tool=tool_to_proto(version.tool), author=version.author)


def draft_from_proto(spec: tool_service_pb2.ToolSpec) -> ToolDraft:
    """What a caller says of a tool. Raises InvalidArgument."""
    return ToolDraft(
        name=spec.name,
        description=spec.description,
        source_code=spec.source_code,
        parameters=from_struct(spec.parameters, "tool.parameters") if spec.HasField("parameters") else None,
        tags=tuple(spec.tags),
        settings=_settings_from_proto(spec.settings),
    )


def change_from_proto(tool: tool_pb2.Tool, paths: Collection[str]) -> ToolChange:
    """The fields named by the mask. Raises InvalidArgument for values that a new tool could not have either."""
    candidate = tool_service_pb2.ToolSpec(source_code="unchanged")
    for path in {"description", "source_code", "tags", "settings"} & set(paths):
        if path == "tags":
            candidate.tags.extend(tool.tags)
        elif path == "settings":
            candidate.settings.CopyFrom(tool.settings)
        else:
            setattr(candidate, path, getattr(tool, path))
    validation.check(candidate)
    given = tool.HasField("parameters") and "parameters" in paths
    return ToolChange(
        description=tool.description if "description" in paths else None,
        source_code=tool.source_code if "source_code" in paths else None,
        parameters=from_struct(tool.parameters, "tool.parameters") if given else None,
        derive_parameters="parameters" in paths and not given,
        tags=tuple(tool.tags) if "tags" in paths else None,
        settings=_settings_from_proto(tool.settings) if "settings" in paths else None,
    )


def filter_from_proto(request: tool_service_pb2.ListToolsRequest) -> ToolFilter:
    """Which tools are wanted. Ids that cannot be are left out, as unknown ones are."""
    wanted: list[Any] = []
    for text in request.tool_ids:
        try:
            wanted.append(ids.decode("tool", text))
        except DomainError:
            continue
    return ToolFilter(
        name_prefix=request.name_prefix,
        tags=tuple(request.tags),
        kind=ToolKind(request.kind) if request.kind else None,
        ids=tuple(wanted) if request.tool_ids else None,
    )


def chunk_to_proto(chunk: OutputChunk) -> execution_pb.ExecuteToolResponse:
    """A piece of output."""
    output = execution_pb.OutputChunk(stream=_STREAMS[chunk.stream], text=clean(chunk.text))
    return execution_pb.ExecuteToolResponse(output=output)


def result_to_proto(result: ExecutionResult) -> execution_pb.ExecuteToolResponse:
    """How a call ended."""
    message = execution_pb.ToolExecutionResult(
        state=execution_pb.ToolExecutionState.ValueType(result.state.value),
        text=clean(result.text),
        tool_version=result.tool_version,
        duration_ms=result.duration_ms,
        output_truncated=result.output_truncated,
    )
    if result.state is ExecutionState.SUCCEEDED:
        message.value.CopyFrom(to_value(result.value))
    if result.error is not None:
        message.error.type = clean(result.error.error_type)
        message.error.message = clean(result.error.message)
        message.error.traceback = clean(result.error.traceback)
    return execution_pb.ExecuteToolResponse(result=message)


def _settings_to_proto(settings: ToolSettings) -> tool_pb2.ToolSettings:
    given = {name: getattr(settings, name) for name in _OPTIONAL_SETTINGS if getattr(settings, name) is not None}
    message = tool_pb2.ToolSettings(**given, secrets=settings.secrets, requirements=settings.requirements)
    if settings.allowed_hosts:
        message.network.allowed_hosts.extend(settings.allowed_hosts)
    return message


def _settings_from_proto(message: tool_pb2.ToolSettings) -> ToolSettings:
    given = {name: getattr(message, name) for name in _OPTIONAL_SETTINGS if message.HasField(name)}
    return ToolSettings(
        **given,
        allowed_hosts=tuple(message.network.allowed_hosts),
        secrets=tuple(message.secrets),
        requirements=tuple(message.requirements),
    )


def timestamp(moment: datetime) -> Timestamp:
    """The message of a moment."""
    result = Timestamp()
    result.FromDatetime(moment)
    return result
