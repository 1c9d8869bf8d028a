"""Archival memory: passages, and search among them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from chassis import ids
from chassis.errors import AlreadyExists, etag_mismatch
from chassis.once import Once
from memory_svc.domain.consistency import consistency_position, consistency_token
from memory_svc.domain.passages import Passage, PassageDraft, check_draft, passage_from_draft
from memory_svc.domain.search import MemoryKind, Scope, SearchMode, SearchPage
from memory_svc.interfaces.indexing import IndexProgress
from memory_svc.interfaces.search import Searcher
from memory_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from memory_svc.managers.passage_room import PassageRoom

DEFAULT_TOP_K = 10


@dataclass(frozen=True, slots=True)
class Inserted:
    """What an insert stored, and the token with which a search finds it."""

    passages: Sequence[Passage]
    consistency_token: str


class PassageManager:
    """All that happens to passages. Rows, history and outbox are one transaction; the index follows."""

    def __init__(self, work: UnitOfWork, searcher: Searcher, progress: IndexProgress, room: PassageRoom) -> None:
        self._work = work
        self._room = room
        self._searcher = searcher
        self._progress = progress

    async def insert(
        self,
        organization_id: uuid.UUID,
        agent_id: uuid.UUID,
        drafts: Sequence[PassageDraft],
        author: str,
        once: Once[Inserted],
    ) -> Inserted:
        """Stores all or none.

        Raises InvalidArgument for a bad draft, NotFound where the agent was deleted, ResourceExhausted QUOTA_EXCEEDED.
        """
        now = datetime.now(UTC)
        for place, draft in enumerate(drafts):
            check_draft(draft, f"passages[{place}]", now)
        new = [passage_from_draft(organization_id, agent_id, draft, now) for draft in drafts]
        async with self._work.begin(organization_id) as transaction, transaction.once(once) as answer:
            if await transaction.agents.is_forgotten(agent_id):
                raise ids.absent("agent", agent_id)
            stored, position = await transaction.passages.add(new, author)
            if added := len({passage.id for passage in new} & {passage.id for passage in stored}):
                await self._room.require(transaction, organization_id, added)
            inserted = Inserted(stored, consistency_token(position))
            answer(inserted)
        self._progress.poke()
        return inserted

    async def total(self, organization_id: uuid.UUID) -> int:
        """How many passages the organization has."""
        async with self._work.begin(organization_id) as transaction:
            return await transaction.passages.total()

    async def get(self, organization_id: uuid.UUID, passage_id: uuid.UUID) -> Passage:
        """Raises NotFound."""
        async with self._work.begin(organization_id) as transaction:
            return await _existing(transaction, passage_id)

    async def page(
        self,
        organization_id: uuid.UUID,
        agent_id: uuid.UUID | None,
        tags: Scope,
        before: uuid.UUID | None,
        size: int,
    ) -> tuple[list[Passage], uuid.UUID | None]:
        """One page, newest first, and the id before which the next begins, None at the end."""
        async with self._work.begin(organization_id) as transaction:
            found = await transaction.passages.page(agent_id, tags, before, size + 1)
        page = found[:size]
        return page, page[-1].id if len(found) > size else None

    async def update(
        self,
        organization_id: uuid.UUID,
        passage_id: uuid.UUID,
        etag: str,
        draft: PassageDraft,
        fields: Sequence[str],
        author: str,
    ) -> Passage:
        """Takes the named fields of the draft over.

        Raises NotFound, Aborted ETAG_MISMATCH, InvalidArgument, AlreadyExists where the agent has that text already.
        """
        now = datetime.now(UTC)
        async with self._work.begin(organization_id) as transaction:
            before = await _existing(transaction, passage_id, lock=True)
            if etag and etag != before.etag:
                raise etag_mismatch()
            after = replace(before, **{name: getattr(draft, name) for name in fields})
            if after == before:
                return before
            check_draft(_draft(after, expiry="expire_time" in fields), "passage", now)
            after = replace(after, version=before.version + 1, update_time=now)
            if not await transaction.passages.save(after, author):
                raise AlreadyExists("the agent already has a passage with this text", reason="NAME_TAKEN")
        self._progress.poke()
        return after

    async def delete(self, organization_id: uuid.UUID, passage_id: uuid.UUID) -> None:
        """Forgets a passage: nothing returns it from here on. What is not there is gone already."""
        async with self._work.begin(organization_id) as transaction:
            await transaction.passages.delete(passage_id)
        self._progress.poke()

    async def search(
        self, scope: Scope, query: str, mode: SearchMode, top_k: int, consistency_token: str
    ) -> SearchPage[Passage]:
        """Raises InvalidArgument for a blank query or a token that is none."""
        return await self._searcher.search(
            lambda transaction: transaction.passages,
            replace(scope, kind=MemoryKind.PASSAGE, valid_at=scope.valid_at or datetime.now(UTC)),
            query,
            mode=mode,
            top_k=top_k or DEFAULT_TOP_K,
            after_position=consistency_position(consistency_token) if consistency_token else 0,
        )


async def _existing(transaction: Transaction, passage_id: uuid.UUID, *, lock: bool = False) -> Passage:
    passage = await transaction.passages.get(passage_id, lock=lock)
    if passage is None:
        raise ids.absent("psg", passage_id)
    return passage


def _draft(passage: Passage, *, expiry: bool) -> PassageDraft:
    """A passage as it would be written now; an expiry that is not changed is not checked again."""
    return PassageDraft(
        passage.text,
        passage.tags,
        passage.metadata,
        passage.valid_from,
        passage.valid_to,
        passage.expire_time if expiry else None,
    )
