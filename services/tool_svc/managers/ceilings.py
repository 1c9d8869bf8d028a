"""The most that a call of a tool may use: what the operator allows any tool, less where an organization's limits are lower."""

from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID

from chassis.errors import FailedPrecondition, invalid_field
from chassis.limits import Limits
from tool_svc.domain.execution import MIB, ExecutionLimits
from tool_svc.domain.quota import MAX_MEMORY_MIB, MAX_OUTPUT_KIB, MAX_PACKAGES, MAX_TIMEOUT_S
from tool_svc.domain.tool import ToolSettings


class Ceilings:
    """Ceilings by organization. `operator` is what any tool may use at most."""

    def __init__(self, operator: ExecutionLimits, limits: Limits) -> None:
        self._operator = operator
        self._limits = limits

    def of(self, organization_id: UUID) -> ExecutionLimits:
        """What a call of an organization's tool may use at most. Costs a few look-ups."""
        timeout_s = self._limits.of(organization_id, MAX_TIMEOUT_S)
        memory_mib = self._limits.of(organization_id, MAX_MEMORY_MIB)
        output_kib = self._limits.of(organization_id, MAX_OUTPUT_KIB)
        most = self._operator
        if timeout_s is None and memory_mib is None and output_kib is None:
            return most
        return replace(
            most,
            wall_time_s=most.wall_time_s if timeout_s is None else min(most.wall_time_s, timeout_s),
            memory_bytes=most.memory_bytes if memory_mib is None else min(most.memory_bytes, memory_mib * MIB),
            output_bytes=most.output_bytes if output_kib is None else min(most.output_bytes, output_kib * 1024),
        )

    def check(self, organization_id: UUID, settings: ToolSettings) -> None:
        """Raises InvalidArgument VALIDATION_FAILED naming a setting that is above the organization's own limits, and as `check_packages`.

        What is above the operator's only is cut when the tool is called: tools move from one Hearth to another.
        """
        self.check_packages(organization_id, settings)
        for field, asked, limit, unit in self._asked(organization_id, settings):
            if asked is not None and limit is not None and asked > limit:
                raise invalid_field(
                    f"tool.settings.{field}", f"is more than the organization's limit, which is {limit} {unit}"
                )

    def check_packages(self, organization_id: UUID, settings: ToolSettings) -> None:
        """Raises FailedPrecondition PACKAGES_NOT_ALLOWED for a tool that names more packages than its organization allows."""
        if not settings.requirements:
            return
        limit = self._limits.of(organization_id, MAX_PACKAGES)
        if limit is not None and len(settings.requirements) > limit:
            message = (
                f"the organization's limit is {limit} packages a tool, and this one names {len(settings.requirements)}"
            )
            raise FailedPrecondition(message, reason="PACKAGES_NOT_ALLOWED")

    def _asked(
        self, organization_id: UUID, settings: ToolSettings
    ) -> Iterator[tuple[str, float | None, int | None, str]]:
        """Field, what the tool asks for, the organization's limit, and their unit."""
        timeout_s = None if settings.timeout_ms is None else settings.timeout_ms / 1000
        yield "timeout_ms", timeout_s, self._limits.of(organization_id, MAX_TIMEOUT_S), "s"
        yield "memory_mib", settings.memory_mib, self._limits.of(organization_id, MAX_MEMORY_MIB), "MiB"
        yield "output_kib", settings.output_kib, self._limits.of(organization_id, MAX_OUTPUT_KIB), "KiB"
