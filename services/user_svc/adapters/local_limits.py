"""user_svc's own view of limits and purges: it reads its table instead of calling itself."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from chassis.limits import LimitChanges, LimitList
from user_svc.domain.purge import OWN
from user_svc.managers.limit_manager import LimitManager
from user_svc.managers.purge_manager import PurgeManager


class LocalLimits:
    """A chassis LimitSource over the table."""

    def __init__(self, manager: LimitManager) -> None:
        self._manager = manager

    async def after(self, position: int) -> LimitChanges:
        found = await self._manager.after(position)
        own = [(one.organization_id, one.values) for one in found]
        return LimitChanges(self._manager.defaults, own, found[-1].position if found else position)


def local_limits(manager: LimitManager) -> LimitList:
    """The limits that user_svc itself enforces."""
    return LimitList(LocalLimits(manager))


class LocalPurges:
    """A chassis PurgeSource over the table, for user_svc's own rows."""

    def __init__(self, manager: PurgeManager) -> None:
        self._manager = manager

    async def due(self) -> Sequence[UUID]:
        return await self._manager.due(OWN)

    async def report(self, organization_id: UUID, removed: Mapping[str, int]) -> None:
        await self._manager.report(OWN, organization_id, removed)
