"""How many calls of tools an organization may make a minute, and makes."""

from chassis.identity import Identity
from chassis.limits import Limits, quota_exceeded
from tool_svc.domain.quota import TOOL_CALLS
from tool_svc.interfaces.unit_of_work import UnitOfWork


class CallQuota:
    """Counts calls over all replicas, and holds organizations to their limit."""

    def __init__(self, unit_of_work: UnitOfWork, limits: Limits) -> None:
        self._work = unit_of_work
        self._limits = limits

    async def take(self, caller: Identity) -> None:
        """Counts one call. Raises ResourceExhausted QUOTA_EXCEEDED, and then it does not count."""
        limit = self._limits.of(caller.organization_id, TOOL_CALLS)
        async with self._work.of(caller.organization_id) as work:
            if await work.calls.take(limit):
                return
            assert limit is not None
            count = await work.calls.now()
        raise quota_exceeded(TOOL_CALLS, limit, count.last_minute, retry_after_s=count.retry_after_s(limit))

    async def calls_last_minute(self, caller: Identity) -> int:
        """How many calls of the caller's organization count for its quota now."""
        async with self._work.of(caller.organization_id) as work:
            return (await work.calls.now()).last_minute
