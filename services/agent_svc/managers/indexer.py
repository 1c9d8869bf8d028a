"""Makes messages searchable in recall memory, off the path of the turn, until it has them: the log knows what is missing."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

from agent_svc.interfaces.identities import Identities
from agent_svc.interfaces.memory import RecallIndex
from agent_svc.interfaces.run_log import IndexLog
from chassis.errors import DomainError
from chassis.identity import use
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

# What was noted is collected this long, so that many messages travel together.
COLLECT_S = 0.5
_MAX_CONVERSATIONS = 100


class Indexer:
    """Collects conversations with new messages; what fails is found again by the sweep, since its dispatch stays."""

    def __init__(self, log: IndexLog, index: RecallIndex, identities: Identities) -> None:
        self._log = log
        self._index = index
        self._identities = identities
        self._noted: dict[UUID, set[UUID]] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """What is noted stays due in the log."""
        await end_task(self._task)

    def note(self, organization_id: UUID, conversation_id: UUID) -> None:
        """The conversation may have messages that recall memory lacks."""
        self._noted.setdefault(organization_id, set()).add(conversation_id)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(COLLECT_S)
            self._wake.clear()
            noted, self._noted = self._noted, {}
            for organization_id, conversations in noted.items():
                ordered = list(conversations)
                for start in range(0, len(ordered), _MAX_CONVERSATIONS):
                    await self._index_some(organization_id, ordered[start : start + _MAX_CONVERSATIONS])

    async def _index_some(self, organization_id: UUID, conversation_ids: list[UUID]) -> None:
        try:
            missing = await self._log.unindexed(organization_id, conversation_ids)
            if any(one.messages for one in missing):
                with use(await self._identities.identity_for(organization_id)):
                    await self._index.index([one for one in missing if one.messages])
            if missing:
                await self._log.mark_indexed(organization_id, missing)
            for one in missing:
                if one.more:
                    self.note(organization_id, one.conversation_id)
        except DomainError as error:
            _log.warning("messages could not be indexed; tried again later", extra={"reason": error.reason})
        except Exception:
            _log.exception("messages could not be indexed")
