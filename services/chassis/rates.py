"""How often an organization and each of its users may call this process: token buckets that hold one second's worth.

The door in front cuts off floods with one rate for all; here the rates are the organization's own, and calls count that do not
come through the door. Each process counts for itself.
"""

import time
from collections.abc import Callable, Hashable
from uuid import UUID

from chassis.errors import ResourceExhausted
from chassis.identity import Identity, Role
from chassis.limits import Limits

ORGANIZATION_RATE = "requests_per_second"
USER_RATE = "user_requests_per_second"

# A bucket that nobody asked for a second is full, so it may be forgotten.
_MAX_BUCKETS = 10_000
_FULL_AFTER_S = 1.0


class RateLimiter:
    """Counts calls. Services are not counted: what they do follows from calls that were."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        # Tokens left, and when.
        self._buckets: dict[Hashable, tuple[float, float]] = {}

    def admit(self, identity: Identity) -> None:
        """Counts one call. Raises ResourceExhausted RATE_LIMITED; a call that is refused counts for nobody."""
        if identity.role is Role.SERVICE:
            return
        organization_id: UUID = identity.organization_id
        rates = (
            (organization_id, ORGANIZATION_RATE, self._limits.of(organization_id, ORGANIZATION_RATE)),
            (identity.subject, USER_RATE, self._limits.of(organization_id, USER_RATE)),
        )
        now = self._clock()
        taken: list[tuple[Hashable, float]] = []
        for key, name, rate in rates:
            if rate is None:
                continue
            left, at = self._buckets.get(key, (float(rate), now))
            left = min(float(rate), left + (now - at) * rate)
            if left < 1:
                raise _too_many(name, rate, (1 - left) / rate if rate else None)
            taken.append((key, left - 1))
        for key, left in taken:
            self._buckets[key] = (left, now)
        if len(self._buckets) > _MAX_BUCKETS:
            self._buckets = {key: one for key, one in self._buckets.items() if now - one[1] < _FULL_AFTER_S}


def _too_many(name: str, rate: int, retry_after_s: float | None) -> ResourceExhausted:
    return ResourceExhausted(
        f"more than {rate} {name.replace('_', ' ')}",
        reason="RATE_LIMITED",
        metadata={"limit": name, "value": str(rate)},
        retry_after_s=retry_after_s,
    )
