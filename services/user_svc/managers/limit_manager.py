"""What organizations may use, for everyone who enforces it and for those who look."""

from collections.abc import Mapping, Sequence

from user_svc.domain.limits import LimitsChange, Usage
from user_svc.domain.organization import Organization, OrganizationState
from user_svc.interfaces.unit_of_work import UnitOfWork
from user_svc.interfaces.usage import UsageReader

PAGE = 1_000


class LimitManager:
    """Reads what OrganizationManager records, and asks the services what is used."""

    def __init__(self, unit_of_work: UnitOfWork, defaults: Mapping[str, int], usage: UsageReader) -> None:
        self._work = unit_of_work
        self._usage = usage
        self.defaults = defaults

    async def after(self, position: int) -> Sequence[LimitsChange]:
        """Own numbers of organizations that were set after a position, oldest first, at most 1000."""
        async with self._work.of_platform(None) as work:
            return await work.organizations.limits_after(position, PAGE)

    def in_force(self, organization: Organization) -> Mapping[str, int]:
        """Its own numbers, and the defaults where it has none."""
        return {**self.defaults, **organization.limits}

    async def usage(self, organization: Organization) -> Usage | None:
        """What it uses now; None for one that is not active: nobody acts for it, so nobody can be asked."""
        if organization.state is not OrganizationState.ACTIVE:
            return None
        return await self._usage.of(organization.id)
