"""What the operator allows MCP servers."""

from dataclasses import dataclass
from pathlib import Path

from tool_svc.domain.egress import Network

MIB = 1024 * 1024


@dataclass(frozen=True)
class McpSettings:
    """Limits of connections. Sizes are bytes, times seconds.

    `max_message`: of one message of a server; `max_bytes` and `max_lines`: of all that it sends while one call runs.
    """

    scratch_root: Path
    allowed_networks: tuple[Network, ...] = ()
    stdio: bool = False
    # Folders that commands on stdio may read and execute from, beside the system's own.
    stdio_paths: tuple[Path, ...] = ()
    # Processes of a root service run as this user id and the following ones.
    first_uid: int = 64_500
    memory_bytes: int = 1024 * MIB
    max_connections: int = 32
    idle_s: float = 60.0
    max_message: int = 4 * MIB
    max_bytes: int = 16 * MIB
    max_lines: int = 20_000
