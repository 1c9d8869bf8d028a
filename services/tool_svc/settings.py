"""tool_svc's own environment variables, beside those of every service."""

import ipaddress
import os
import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field

from chassis.settings import ServiceSettings
from tool_svc.adapters.egress.proxy import EgressSettings
from tool_svc.adapters.mcp.settings import McpSettings
from tool_svc.adapters.packages.pip import InstallLimits, Pip
from tool_svc.adapters.packages.store import NoPackages, PackageFolders
from tool_svc.adapters.sandbox.pool import PoolSettings
from tool_svc.domain.egress import HostRule
from tool_svc.domain.execution import MIB, ExecutionLimits
from tool_svc.managers.turns import Turns


class ToolServiceSettings(ServiceSettings):
    """HEARTH_SANDBOX_*, HEARTH_TOOL_MAX_*, HEARTH_EGRESS_*, HEARTH_PACKAGES_*, HEARTH_MCP_*."""

    # Where tools' scratch folders lie. Others must be able to pass it when the service runs as root.
    sandbox_dir: Path = Path(tempfile.gettempdir()) / "hearth-sandbox"
    # Tools run with the service's own rights: only where nobody else can make tools.
    sandbox_unconfined: Literal["", "i-accept-the-risk"] = ""
    sandbox_warm_workers: int = Field(default=3, ge=1, le=64)
    sandbox_max_running: int = Field(default=8, ge=1, le=256)
    sandbox_max_waiting: int = Field(default=64, ge=0, le=10_000)
    # Of these, what one organization may have; the default leaves others a quarter. 0: as many as there are.
    sandbox_organization_running: int = Field(default=6, ge=0)
    # Workers of a root service run as this user id and the following ones.
    sandbox_first_uid: int = Field(default=64_000, ge=1_000)

    # What any tool may have at most, whatever it asks for.
    tool_max_timeout_s: float = Field(default=600.0, gt=0)
    tool_max_memory_mib: int = Field(default=1024, ge=16)
    tool_max_output_kib: int = Field(default=64, ge=1, le=4096)
    tool_max_scratch_mib: int = Field(default=64, ge=1)

    # Hosts that any tool may reach at all (as in a tool's `allowed_hosts`), separated by spaces; `*`: those that the tool names.
    egress_hosts: str = "*"
    # Networks that tools may reach although they are not public, as in `10.1.2.0/24`, separated by spaces.
    egress_allow_networks: str = ""
    egress_max_mib: int = Field(default=64, ge=1)

    # Whether tools may name Python packages, which are then installed from the index of this user's pip configuration.
    packages_allowed: bool = False
    packages_dir: Path = Path(tempfile.gettempdir()) / "hearth-packages"
    packages_max_mib: int = Field(default=2048, ge=1)
    packages_install_mib: int = Field(default=256, ge=1)
    packages_install_s: float = Field(default=120.0, gt=0)

    # Files of former master keys, separated by spaces: secrets that were sealed under them can still be opened.
    former_master_key_files: str = ""

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
            packages_root=self.packages_dir if self.packages_allowed else None,
        )

    def turns(self) -> Turns:
        """An organization's share of the sandbox."""
        return Turns(self.sandbox_organization_running or self.sandbox_max_running, self.sandbox_max_waiting)

    def egress(self) -> EgressSettings:
        """What tools may reach at most. Raises ValueError."""
        every = self.egress_hosts.strip() == "*"
        return EgressSettings(
            hosts=None if every else tuple(HostRule.parse(host) for host in self.egress_hosts.split()),
            exempt=tuple(ipaddress.ip_network(network) for network in self.egress_allow_networks.split()),
            max_bytes=self.egress_max_mib * MIB,
        )

    def packages(self) -> PackageFolders | NoPackages:
        """Where packages are kept. Raises ValueError, OSError."""
        if not self.packages_allowed:
            return NoPackages()
        limits = InstallLimits(time_s=self.packages_install_s, bytes=self.packages_install_mib * MIB)
        uid = self.sandbox_first_uid - 1 if os.geteuid() == 0 else 0
        pip = Pip(limits, uid=uid, confined=not self.sandbox_unconfined)
        return PackageFolders(self.packages_dir, pip, self.packages_max_mib * MIB)

    def secret_keys(self) -> list[bytes]:
        """Keys that wrap secrets, the one in use first. Raises ValueError."""
        former = [
            self.model_copy(update={"master_key_file": Path(name)}) for name in self.former_master_key_files.split()
        ]
        return [one.derived_key("tool-secrets") for one in (self, *former)]

    def ceiling(self) -> ExecutionLimits:
        """The most that a call may use."""
        return ExecutionLimits(
            wall_time_s=self.tool_max_timeout_s,
            cpu_s=int(self.tool_max_timeout_s) + 1,
            memory_bytes=self.tool_max_memory_mib * MIB,
            output_bytes=self.tool_max_output_kib * 1024,
            scratch_bytes=self.tool_max_scratch_mib * MIB,
        )
