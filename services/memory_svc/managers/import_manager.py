"""Imports of passages: a long stream in batches, each atomic, that can be resumed where it broke off."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from chassis import ids
from chassis.errors import OutOfRange, invalid_field
from memory_svc.domain.passages import ImportProgress, PassageDraft, check_draft, passage_from_draft
from memory_svc.interfaces.indexing import IndexProgress
from memory_svc.interfaces.unit_of_work import UnitOfWork
from memory_svc.managers.passage_room import PassageRoom


class ImportManager:
    """Stores batches. How far an import is, is written in the transaction that stores its batch."""

    def __init__(self, work: UnitOfWork, progress: IndexProgress, room: PassageRoom) -> None:
        self._work = work
        self._room = room
        self._progress = progress

    async def store(
        self,
        organization_id: uuid.UUID,
        import_id: uuid.UUID,
        agent_id: uuid.UUID,
        offset: int,
        drafts: Sequence[PassageDraft],
        author: str,
    ) -> ImportProgress:
        """Stores what the import does not have yet of a batch that begins at `offset`, and says how far it is now.

        Raises InvalidArgument for a bad draft or another agent than before, OutOfRange where passages before the offset are
        missing, NotFound where the agent was deleted, ResourceExhausted QUOTA_EXCEEDED.
        """
        now = datetime.now(UTC)
        for place, draft in enumerate(drafts):
            check_draft(draft, f"passages[{place}]", now)
        async with self._work.begin(organization_id) as transaction:
            if await transaction.agents.is_forgotten(agent_id):
                raise ids.absent("agent", agent_id)
            before = await transaction.imports.begin(import_id, agent_id, now)
            if before.agent_id != agent_id:
                raise invalid_field("agent_id", "must be the agent with which the import began")
            if offset > before.stored_count:
                raise _ahead(before.stored_count)
            new = [
                passage_from_draft(organization_id, agent_id, draft, now)
                for draft in drafts[before.stored_count - offset :]
            ]
            if not new:
                return before
            stored, _ = await transaction.passages.add(new, author)
            known = sum(kept.id != made.id for kept, made in zip(stored, new, strict=True))
            after = replace(
                before,
                stored_count=before.stored_count + len(new),
                duplicate_count=before.duplicate_count + known,
            )
            await transaction.imports.save(after, now)
            await self._room.require(transaction, organization_id, len(new) - known)
        self._progress.poke()
        return after


def _ahead(stored: int) -> OutOfRange:
    return OutOfRange(
        f"the import has {stored} passages: go on from there",
        reason="VALIDATION_FAILED",
        metadata={"stored_count": str(stored)},
    )
