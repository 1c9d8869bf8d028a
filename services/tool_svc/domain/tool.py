"""A tool and the rules that it keeps. Times are aware datetimes."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any

from tool_svc.domain.execution import MIB, ExecutionLimits

DEFAULT_RETURN_LIMIT = 50_000
DEFAULT_TIMEOUT_MS = 30_000
DEFAULT_MEMORY_MIB = 256
DEFAULT_OUTPUT_KIB = 64


class ToolKind(IntEnum):
    """Where a tool comes from. Numbers as in hearth.tool.v1.ToolKind."""

    PYTHON = 1
    MCP = 2


@dataclass(frozen=True, slots=True)
class ToolSettings:
    """How a tool runs. None means the default, which may change with a version of Hearth."""

    return_limit: int | None = None
    timeout_ms: int | None = None
    memory_mib: int | None = None
    requires_approval: bool | None = None
    idempotent: bool | None = None
    allowed_hosts: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    output_kib: int | None = None

    @property
    def result_characters(self) -> int:
        """Most characters of a result that the model sees."""
        return self.return_limit or DEFAULT_RETURN_LIMIT

    def limits(self, ceiling: ExecutionLimits) -> ExecutionLimits:
        """What a call may use: as the tool says, never more than the ceiling."""
        timeout_s = min((self.timeout_ms or DEFAULT_TIMEOUT_MS) / 1000, ceiling.wall_time_s)
        return ExecutionLimits(
            wall_time_s=timeout_s,
            cpu_s=max(1, min(int(timeout_s) + 1, ceiling.cpu_s)),
            memory_bytes=min((self.memory_mib or DEFAULT_MEMORY_MIB) * MIB, ceiling.memory_bytes),
            output_bytes=min((self.output_kib or DEFAULT_OUTPUT_KIB) * 1024, ceiling.output_bytes),
            result_bytes=ceiling.result_bytes,
            file_bytes=ceiling.file_bytes,
            scratch_bytes=ceiling.scratch_bytes,
            open_files=ceiling.open_files,
            threads=ceiling.threads,
        )


@dataclass(frozen=True, slots=True)
class ToolContent:
    """What a version of a tool consists of: all that a change can change.

    Of a tool of kind MCP the source is empty and `entry_point` is its name at the server.
    """

    description: str
    source_code: str
    entry_point: str
    parameters: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    settings: ToolSettings = field(default_factory=ToolSettings)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that agents of an organization may call."""

    id: uuid.UUID
    organization_id: uuid.UUID
    name: str
    kind: ToolKind
    content: ToolContent
    version: int
    create_time: datetime
    update_time: datetime
    # Of a tool of kind MCP: the server that it is called at, under the name in `entry_point`.
    mcp_server_id: uuid.UUID | None = None

    @property
    def etag(self) -> str:
        """Changes with every change; clients compare it and read nothing into it."""
        return hashlib.blake2b(f"{self.id}:{self.version}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class ToolVersion:
    """A tool as it was after one change, and who made it."""

    tool: Tool
    author: str


@dataclass(frozen=True, slots=True)
class ToolDraft:
    """What a caller says of a tool. Empty name or description, and no parameters, mean: read them from the source."""

    name: str
    description: str
    source_code: str
    parameters: Mapping[str, Any] | None
    tags: tuple[str, ...]
    settings: ToolSettings


@dataclass(frozen=True, slots=True)
class ToolChange:
    """New values of an update; None leaves a field as it is. `derive_parameters` reads them from the source again."""

    description: str | None = None
    source_code: str | None = None
    parameters: Mapping[str, Any] | None = None
    derive_parameters: bool = False
    tags: tuple[str, ...] | None = None
    settings: ToolSettings | None = None


@dataclass(frozen=True, slots=True)
class ToolFilter:
    """Which tools a list holds: those that meet every condition given."""

    name_prefix: str = ""
    tags: tuple[str, ...] = ()
    kind: ToolKind | None = None
    ids: tuple[uuid.UUID, ...] | None = None
