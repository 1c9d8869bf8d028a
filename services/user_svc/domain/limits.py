"""What an organization may use: numbers by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

# As in hearth.user.v1.OrganizationLimits, each with the least that it can be.
LIMITS: Mapping[str, int] = {
    "requests_per_second": 1,
    "user_requests_per_second": 1,
    "concurrent_runs": 0,
    "user_concurrent_runs": 0,
    "stored_passages": 0,
    "tool_calls_per_minute": 0,
    "max_tool_timeout_s": 1,
    "max_tool_memory_mib": 16,
    "max_tool_output_kib": 1,
    "max_tool_packages": 0,
}


@dataclass(frozen=True, slots=True)
class LimitsChange:
    """An organization's own numbers as of a position."""

    organization_id: UUID
    values: Mapping[str, int]
    position: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What an organization uses now; None where the service that counts it, named in `unanswered`, did not say."""

    active_runs: int | None = None
    stored_passages: int | None = None
    tool_calls_last_minute: int | None = None
    unanswered: tuple[str, ...] = ()
