"""How many calls of tools an organization may make a minute, and makes."""

from chassis.identity import Identity
from chassis.limits import Limits, quota_exceeded
from tool_svc.domain.quota import TOOL_CALLS
from tool_svc.interfaces.repositories import CallCounter


class CallQuota:
    """Counts calls over all replicas, and holds organizations to their limit."""

    def __init__(self, counter: CallCounter, limits: Limits) -> None:
        self._counter = counter
        self._limits = limits

    async def take(self, caller: Identity) -> None:
        """Counts one call. Raises ResourceExhausted QUOTA_EXCEEDED, and then it does not count."""
        limit = self._limits.of(caller.organization_id, TOOL_CALLS)
        if await self._counter.take(caller.organization_id, limit):
            return
        assert limit is not None
        count = await self._counter.now(caller.organization_id)
        raise quota_exceeded(TOOL_CALLS, limit, count.last_minute, retry_after_s=count.retry_after_s(limit))

    async def calls_last_minute(self, caller: Identity) -> int:
        """How many calls of the caller's organization count for its quota now."""
        return (await self._counter.now(caller.organization_id)).last_minute
