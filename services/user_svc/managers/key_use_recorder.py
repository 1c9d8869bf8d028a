"""Records when API keys are used: noted in memory by each sign-in, stored together by one statement every few seconds."""

import asyncio
import logging
from datetime import datetime, timedelta
from uuid import UUID

from chassis.callcontext import set_call
from chassis.errors import DomainError
from chassis.identity import set_current
from chassis.tasks import end_task
from user_svc.interfaces.key_uses import KeyUseRepository

_log = logging.getLogger(__name__)

# A key that is used all the time is written this often.
EVERY = timedelta(minutes=1)
_INTERVAL_S = 5.0
# More keys at once than this are not remembered: the time is for people to look at.
_MOST = 50_000


class KeyUseRecorder:
    """KeyUses in the background of a process: what was noted is written every five seconds, and at the end."""

    def __init__(self, repository: KeyUseRepository, *, interval_s: float = _INTERVAL_S) -> None:
        self._repository = repository
        self._interval_s = interval_s
        self._noted: dict[UUID, datetime] = {}
        self._written: dict[UUID, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, key_id: UUID, moment: datetime) -> None:
        """Remembers a use, unless one of the last minute is known."""
        written = self._written.get(key_id)
        if key_id in self._noted or (written is not None and moment - written < EVERY):
            return
        if len(self._noted) < _MOST:
            self._noted[key_id] = moment

    async def start(self) -> None:
        """Begins to write."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Writes what is left."""
        await end_task(self._task)
        await self.flush()

    async def flush(self) -> None:
        """Writes what was noted; what cannot be written now is kept."""
        uses, self._noted = self._noted, {}
        if not uses:
            return
        try:
            await self._repository.save(uses)
        except BaseException as error:
            self._noted = uses | self._noted
            if not isinstance(error, Exception):
                raise
            _log.warning(
                "uses of API keys are written later", exc_info=None if isinstance(error, DomainError) else error
            )
            return
        latest = max(uses.values())
        self._written = {key: moment for key, moment in self._written.items() if latest - moment < EVERY} | uses

    async def _run(self) -> None:
        # Whatever call began this, the work is nobody's.
        set_call(None)
        set_current(None)
        while True:
            await asyncio.sleep(self._interval_s)
            await self.flush()
