"""One execution of a tool: what goes in, what may come out. Sizes are bytes, times are seconds."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExecutionLimits:
    """What one call may use. The sandbox enforces each and names the one that was exceeded."""

    wall_time_s: float = 30.0
    cpu_s: int = 30
    memory_bytes: int = 256 * MIB
    output_bytes: int = 64 * 1024
    result_bytes: int = 1 * MIB
    file_bytes: int = 32 * MIB
    scratch_bytes: int = 64 * MIB
    open_files: int = 64
    threads: int = 32


@dataclass(frozen=True, slots=True)
class SandboxCall:
    """A function of some source, to be called once with JSON arguments by name. `environment` may hold secrets."""

    call_id: str
    source: str
    entry_point: str
    arguments: Mapping[str, Any]
    limits: ExecutionLimits = field(default_factory=ExecutionLimits)
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    # What it may reach (see `egress`); none: no network.
    allowed_hosts: tuple[str, ...] = ()
    # A folder of installed packages that it may import.
    packages: Path | None = None


class OutputStream(enum.Enum):
    """Which of the tool's streams a chunk was written to."""

    STDOUT = "stdout"
    STDERR = "stderr"


class Limit(enum.Enum):
    """The limit that ended a call."""

    WALL_TIME = "wall_time"
    CPU = "cpu"
    MEMORY = "memory"
    OUTPUT = "output"
    RESULT_SIZE = "result_size"
    SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class OutputChunk:
    """Text the tool printed, in order within its stream; `truncated` marks the sandbox's own note that it stops."""

    stream: OutputStream
    text: str
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The function returned; `result_json` is well-formed JSON, and untrusted."""

    result_json: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The tool raised, or its process ended: what the tool's author needs to see."""

    error_type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class LimitExceeded:
    """The call was ended because it used more than it may."""

    limit: Limit
    message: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The call was ended because somebody asked for it, or because the service stops."""


Outcome = Succeeded | Failed | LimitExceeded | Cancelled
SandboxEvent = OutputChunk | Outcome
