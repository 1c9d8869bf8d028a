"""The removal of deleted organizations' data: what each service has to do, and what it has done."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from chassis import ids
from chassis.identity import Identity, Role, role_insufficient
from user_svc.domain.purge import HOLDERS
from user_svc.interfaces.unit_of_work import UnitOfWork

PAGE = 100


class PurgeManager:
    """Business rules of purges."""

    def __init__(self, unit_of_work: UnitOfWork) -> None:
        self._work = unit_of_work

    async def due(self, service: str) -> Sequence[UUID]:
        """Deleted organizations of which a service still has to remove the data, at most 100; user_svc comes last."""
        async with self._work.of_platform(None) as work:
            return await work.organizations.to_purge(service, datetime.now(UTC), PAGE)

    async def report(self, service: str, organization_id: UUID, removed: Mapping[str, int]) -> None:
        """A service has nothing left. The first report counts. Raises NotFound for what is not deleted."""
        now = datetime.now(UTC)
        async with self._work.of_platform(None) as work:
            found = await work.organizations.get_for_update(organization_id)
            if found is None or found.purge_time is None or found.purge_time > now:
                raise ids.absent("org", organization_id)
            if service not in found.purges:
                report = {"end_time": now.isoformat(), "removed": dict(removed)}
                await work.organizations.purged(found, service, report, now)


def service_of(caller: Identity) -> str:
    """The service that calls. Raises PermissionDenied for one that keeps no organization's data."""
    service = caller.subject.removeprefix("svc:")
    if caller.role is not Role.SERVICE or service not in HOLDERS:
        raise role_insufficient("SERVICE")
    return service
