"""tool_svc's own environment variables, beside those of every service."""

import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field

from chassis.settings import ServiceSettings
from tool_svc.adapters.mcp.settings import McpSettings
from tool_svc.adapters.sandbox.pool import PoolSettings
from tool_svc.domain.execution import MIB, ExecutionLimits


class ToolServiceSettings(ServiceSettings):
    """HEARTH_SANDBOX_*, HEARTH_TOOL_MAX_* and HEARTH_MCP_*."""

    # Where tools' scratch folders lie. Others must be able to pass it when the service runs as root.
    sandbox_dir: Path = Path(tempfile.gettempdir()) / "hearth-sandbox"
    # Tools run with the service's own rights: only where nobody else can make tools.
    sandbox_unconfined: Literal["", "i-accept-the-risk"] = ""
    sandbox_warm_workers: int = Field(default=3, ge=1, le=64)
    sandbox_max_running: int = Field(default=8, ge=1, le=256)
    sandbox_max_waiting: int = Field(default=64, ge=0, le=10_000)
    # Workers of a root service run as this user id and the following ones.
    sandbox_first_uid: int = Field(default=64_000, ge=1_000)

    # What any tool may have at most, whatever it asks for.
    tool_max_timeout_s: float = Field(default=600.0, gt=0)
    tool_max_memory_mib: int = Field(default=1024, ge=16)
    tool_max_output_kib: int = Field(default=64, ge=1, le=4096)
    tool_max_scratch_mib: int = Field(default=64, ge=1)

    # Networks beside the public ones that MCP servers may be in, as CIDR, with commas between.
    mcp_allowed_networks: str = ""
    # Whether organizations may have this service start MCP servers as processes of its own.
    mcp_stdio: bool = False
    # Folders that those may read and execute from, beside the system's own, with colons between.
    mcp_stdio_paths: str = ""
    mcp_stdio_memory_mib: int = Field(default=1024, ge=64)
    # Processes of a root service run as this user id and the following ones.
    mcp_first_uid: int = Field(default=64_500, ge=1_000)
    mcp_max_connections: int = Field(default=32, ge=1, le=1_000)
    mcp_idle_s: float = Field(default=60.0, gt=0)
    # Servers that one organization may register.
    mcp_max_servers: int = Field(default=50, ge=0)

    def mcp(self) -> McpSettings:
        """How MCP servers are reached. Raises ValueError naming the variable that cannot be right."""
        try:
            networks = tuple(ip_network(text.strip()) for text in self.mcp_allowed_networks.split(",") if text.strip())
        except ValueError as error:
            raise ValueError(f"HEARTH_MCP_ALLOWED_NETWORKS: {error}") from None
        return McpSettings(
            scratch_root=self.sandbox_dir,
            allowed_networks=networks,
            stdio=self.mcp_stdio,
            stdio_paths=tuple(Path(text) for text in self.mcp_stdio_paths.split(":") if text),
            first_uid=self.mcp_first_uid,
            memory_bytes=self.mcp_stdio_memory_mib * MIB,
            max_connections=self.mcp_max_connections,
            idle_s=self.mcp_idle_s,
        )

    def pool(self) -> PoolSettings:
        """How the sandbox is set up."""
        return PoolSettings(
            root=self.sandbox_dir,
            warm_workers=self.sandbox_warm_workers,
            max_running=self.sandbox_max_running,
            max_waiting=self.sandbox_max_waiting,
            first_uid=self.sandbox_first_uid,
            unconfined=bool(self.sandbox_unconfined),
        )

    def ceiling(self) -> ExecutionLimits:
        """The most that a call may use."""
        return ExecutionLimits(
            wall_time_s=self.tool_max_timeout_s,
            cpu_s=int(self.tool_max_timeout_s) + 1,
            memory_bytes=self.tool_max_memory_mib * MIB,
            output_bytes=self.tool_max_output_kib * 1024,
            scratch_bytes=self.tool_max_scratch_mib * MIB,
        )
