"""Usage and purges as clients see them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hearth.user.v1 import organization_pb2 as pb
from user_svc.domain.limits import Usage
from user_svc.domain.organization import Organization
from user_svc.domain.purge import HOLDERS
from user_svc.servicers.mapping import timestamp


def usage_to_proto(usage: Usage, limits: Mapping[str, int]) -> pb.OrganizationUsage:
    """What is used, beside the limits in force."""
    return pb.OrganizationUsage(
        limits=pb.OrganizationLimits(**limits),
        active_runs=usage.active_runs,
        stored_passages=usage.stored_passages,
        tool_calls_last_minute=usage.tool_calls_last_minute,
        unanswered=usage.unanswered,
    )


def purge_to_proto(organization: Organization) -> pb.OrganizationPurge | None:
    """None while there is nothing to purge."""
    if organization.purge_time is None:
        return None
    purge = pb.OrganizationPurge(
        start_time=timestamp(organization.purge_time),
        services=[_service(name, organization.purges.get(name)) for name in HOLDERS],
    )
    if organization.purge_end_time is not None:
        purge.end_time.CopyFrom(timestamp(organization.purge_end_time))
    return purge


def _service(name: str, report: Mapping[str, Any] | None) -> pb.ServicePurge:
    if report is None:
        return pb.ServicePurge(service=name)
    ended = timestamp(datetime.fromisoformat(report["end_time"]))
    return pb.ServicePurge(service=name, end_time=ended, removed=report["removed"])
