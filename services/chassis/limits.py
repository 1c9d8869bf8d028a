"""What each organization may use: numbers by name, which user_svc keeps and everybody else reads every two seconds.

They are read, not sent, as revocations are. A process holds the organizations that have numbers of their own, and the defaults
for all others. While user_svc does not answer, what is known stays in force; before it was read once, there is no limit.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from chassis.callcontext import set_call
from chassis.errors import DomainError, ResourceExhausted
from chassis.identity import set_current
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

POLL_S = 2.0
_RETRY_S = 0.5
# Every so many readings all is read again: a user_svc that was set back by a backup counts from a lower position.
_WHOLE_EVERY = 30
# How long the first calls of a process wait for the first answer.
_LOAD_S = 1.5

Values = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LimitChanges:
    """What is new: numbers of organizations, which replace those known before, and the defaults of all others."""

    defaults: Values
    organizations: Sequence[tuple[UUID, Values]]
    position: int


class LimitSource(Protocol):
    """Where limits come from."""

    async def after(self, position: int) -> LimitChanges:
        """What is new after a position, and where to go on. Raises DomainError when it cannot be had."""
        ...


class Limits(Protocol):
    """What organizations may use."""

    def of(self, organization_id: UUID, name: str) -> int | None:
        """The number in force, None for no limit. Costs two look-ups."""
        ...


class NoLimits:
    """Limits of a process that knows of none."""

    def of(self, organization_id: UUID, name: str) -> int | None:
        return None


class LimitList:
    """The Limits of a process, kept up from `start` to `stop`."""

    def __init__(self, source: LimitSource, *, interval_s: float = POLL_S) -> None:
        self._source = source
        self._interval_s = interval_s
        self._defaults: Values = {}
        self._own: dict[UUID, Values] = {}
        self._position = 0
        self._loaded = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def of(self, organization_id: UUID, name: str) -> int | None:
        own = self._own.get(organization_id)
        if own is not None and name in own:
            return own[name]
        return self._defaults.get(name)

    async def start(self) -> None:
        """Begins to read, and waits a moment for the first answer, so that what is served first is bounded too."""
        self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(_LOAD_S):
                await self._loaded.wait()
        except TimeoutError:
            _log.warning("limits are not known yet: none is in force until they are")

    async def stop(self) -> None:
        """Reads no more."""
        await end_task(self._task)

    async def refresh(self, *, whole: bool = False) -> None:
        """Reads what is new, or everything. Raises DomainError."""
        position, own = (0, {}) if whole else (self._position, dict(self._own))
        while True:
            changes = await self._source.after(position)
            own.update(changes.organizations)
            if not changes.organizations or changes.position == position:
                break
            position = changes.position
        self._position, self._own, self._defaults = position, own, dict(changes.defaults)
        self._loaded.set()

    async def _run(self) -> None:
        # Whatever began this, the work is nobody's.
        set_call(None)
        set_current(None)
        readings = 0
        failing = False
        while True:
            try:
                await self.refresh(whole=readings % _WHOLE_EVERY == 0)
                readings += 1
            except Exception as error:
                if not failing:
                    unforeseen = None if isinstance(error, DomainError) else error
                    _log.warning("limits cannot be read; the known ones stay in force", exc_info=unforeseen)
                failing = True
                await asyncio.sleep(_RETRY_S)
                continue
            if failing:
                _log.info("limits are read again")
                failing = False
            await asyncio.sleep(self._interval_s)


def quota_exceeded(name: str, value: int, used: int, *, retry_after_s: float | None = None) -> ResourceExhausted:
    """The answer to what would go beyond a limit. `retry_after_s` only where waiting helps."""
    return ResourceExhausted(
        f"the limit of {value} {name.replace('_', ' ')} is reached",
        reason="QUOTA_EXCEEDED",
        metadata={"limit": name, "value": str(value), "used": str(used)},
        retry_after_s=retry_after_s,
    )
