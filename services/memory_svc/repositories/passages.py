"""Passages and their history in PostgreSQL."""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from memory_svc.domain.near_duplicates import THRESHOLD, likeness, sketch
from memory_svc.domain.passages import Passage, PassageVersion, content_hash
from memory_svc.domain.search import MemoryKind, Scope
from memory_svc.domain.transfer import PassageRecord
from memory_svc.repositories.agents import change_counts, passage_total
from memory_svc.repositories.outbox import enqueue, enqueue_expiry, newest_position, pending_items
from memory_svc.repositories.scopes import PASSAGE_WORDS, passage_conditions, tag_conditions, words_query
from memory_svc.repositories.tables import passage_versions, passages

# The oldest few that share a band with a new text.
_CANDIDATES = sa.text("""
SELECT given.id AS new_id, found.id, found.text
FROM unnest(CAST(:ids AS uuid[]), CAST(:agents AS uuid[]), CAST(:sketches AS text[])) AS given (id, agent, sketch),
LATERAL (
    SELECT id, text FROM passages
    WHERE organization_id = :organization AND agent_id = given.agent AND delete_time IS NULL
        AND (expire_time IS NULL OR expire_time > now()) AND sketch && CAST(given.sketch AS bigint[])
    ORDER BY id LIMIT 8
) AS found
""")


class SqlPassages:
    """A PassageRepository inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: uuid.UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, given: Sequence[Passage], author: str) -> tuple[list[Passage], int]:
        # One order for all writers, so that two batches with the same texts cannot wait for each other.
        twins = await self._near_duplicates(given)
        given = [replace(passage, near_duplicate_of=twins.get(passage.id)) for passage in given]
        rows = sorted(map(_values, given), key=lambda row: row["content_hash"])
        new = insert(passages).on_conflict_do_nothing().returning(passages.c.id)
        stored = set((await self._session.execute(new, rows)).scalars())
        added = [passage for passage in given if passage.id in stored]
        await self._record(added, author)
        counts = Counter(passage.agent_id for passage in added)
        await change_counts(self._session, self._organization_id, passages=counts)
        answer = added if len(added) == len(given) else await self._in_place(given, added)
        return answer, await newest_position(self._session, self._organization_id)

    async def total(self) -> int:
        return await passage_total(self._session, self._organization_id)

    async def restore(self, record: PassageRecord) -> bool:
        passage = record.passage
        # One that is deleted and only waits to leave the index makes room.
        await self._session.execute(passages.delete().where(*self._is(passage.id), passages.c.delete_time.is_not(None)))
        new = insert(passages).values(**_values(passage)).on_conflict_do_nothing().returning(passages.c.id)
        if (await self._session.execute(new)).first() is None:
            return False
        await self._keep_history([_version_values(self._organization_id, passage.id, one) for one in record.versions])
        await self._queue([passage])
        await change_counts(self._session, self._organization_id, passages={passage.agent_id: 1})
        return True

    async def records(self, agent_id: uuid.UUID | None, after: uuid.UUID | None, size: int) -> list[PassageRecord]:
        scope = Scope(self._organization_id, MemoryKind.PASSAGE, agent_id=agent_id)
        query = sa.select(passages).where(*passage_conditions(scope))
        if after is not None:
            query = query.where(passages.c.id > after)
        found = [_passage(row) for row in await self._session.execute(query.order_by(passages.c.id).limit(size))]
        history: dict[uuid.UUID, list[PassageVersion]] = {passage.id: [] for passage in found}
        table = passage_versions.c
        versions = sa.select(passage_versions).where(
            table.organization_id == self._organization_id, table.passage_id.in_(list(history))
        )
        for row in await self._session.execute(versions.order_by(table.passage_id, table.version)):
            kept = PassageVersion(row.version, row.text, tuple(row.tags), row.metadata, row.author, row.create_time)
            history[row.passage_id].append(kept)
        return [PassageRecord(passage, history[passage.id]) for passage in found]

    async def get(self, passage_id: uuid.UUID, *, lock: bool = False) -> Passage | None:
        scope = Scope(self._organization_id, MemoryKind.PASSAGE)
        query = sa.select(passages).where(passages.c.id == passage_id, *passage_conditions(scope))
        row = (await self._session.execute(query.with_for_update() if lock else query)).one_or_none()
        return _passage(row) if row else None

    async def page(self, agent_id: uuid.UUID | None, tags: Scope, before: uuid.UUID | None, size: int) -> list[Passage]:
        scope = Scope(self._organization_id, MemoryKind.PASSAGE, agent_id=agent_id)
        query = sa.select(passages).where(*passage_conditions(scope), *tag_conditions(tags))
        if before is not None:
            query = query.where(passages.c.id < before)
        rows = await self._session.execute(query.order_by(passages.c.id.desc()).limit(size))
        return [_passage(row) for row in rows]

    async def save(self, passage: Passage, author: str) -> bool:
        change = passages.update().where(*self._is(passage.id)).values(**_values(passage))
        try:
            async with self._session.begin_nested():
                await self._session.execute(change)
        except IntegrityError:
            return False
        await self._record([passage], author)
        return True

    async def delete(self, passage_id: uuid.UUID) -> None:
        await self._mark_deleted(passages.c.id == passage_id)

    async def delete_of_agent(self, agent_id: uuid.UUID) -> None:
        await self._mark_deleted(passages.c.agent_id == agent_id)

    async def for_index(self, passage_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Passage]:
        return await self.load(Scope(self._organization_id, MemoryKind.PASSAGE), passage_ids)

    async def purge(self, passage_ids: Collection[uuid.UUID]) -> None:
        mine = (passages.c.organization_id == self._organization_id, passages.c.id.in_(list(passage_ids)))
        expired = passages.c.delete_time.is_(None) & (passages.c.expire_time <= sa.func.now())
        gone = await self._session.execute(passages.delete().where(*mine, expired).returning(passages.c.agent_id))
        await self._count_out(list(gone.scalars()))
        await self._session.execute(passages.delete().where(*mine, passages.c.delete_time.is_not(None)))

    async def load(self, scope: Scope, item_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Passage]:
        query = sa.select(passages).where(passages.c.id.in_(list(item_ids)), *passage_conditions(scope))
        return {row.id: _passage(row) for row in await self._session.execute(query)} if item_ids else {}

    async def pending(self, scope: Scope, size: int) -> list[Passage]:
        waiting = pending_items(self._organization_id, MemoryKind.PASSAGE)
        query = sa.select(passages).where(passages.c.id.in_(waiting), *passage_conditions(scope))
        return [_passage(row) for row in await self._session.execute(query.order_by(passages.c.id.desc()).limit(size))]

    async def by_words(self, scope: Scope, query: str, size: int) -> list[tuple[Passage, float]]:
        words = words_query(query)
        score = sa.func.ts_rank_cd(PASSAGE_WORDS, words, 1).label("score")
        found = sa.select(passages, score).where(PASSAGE_WORDS.op("@@")(words), *passage_conditions(scope))
        rows = await self._session.execute(found.order_by(score.desc(), passages.c.id.desc()).limit(size))
        return [(_passage(row), row.score) for row in rows]

    async def _near_duplicates(self, given: Sequence[Passage]) -> dict[uuid.UUID, uuid.UUID]:
        """For new passages the one that the agent has already and that says nearly, but not exactly, the same."""
        values = {
            "organization": self._organization_id,
            "ids": [passage.id for passage in given],
            "agents": [passage.agent_id for passage in given],
            # Arrays of arrays must have one width in PostgreSQL, so each sketch travels as text.
            "sketches": [str(sketch(passage.text)).replace("[", "{").replace("]", "}") for passage in given],
        }
        texts = {passage.id: passage.text for passage in given}
        found: dict[uuid.UUID, uuid.UUID] = {}
        best: dict[uuid.UUID, float] = {}
        for row in await self._session.execute(_CANDIDATES, values):
            alike = likeness(texts[row.new_id], row.text)
            exact = content_hash(texts[row.new_id]) == content_hash(row.text)
            if not exact and alike >= max(THRESHOLD, best.get(row.new_id, 0.0)):
                found[row.new_id], best[row.new_id] = row.id, alike
        return found

    async def _record(self, changed: Sequence[Passage], author: str) -> None:
        """History and outbox of what was just written."""
        if not changed:
            return
        written = [
            (passage, PassageVersion(passage.version, passage.text, passage.tags, passage.metadata, author, when))
            for passage in changed
            for when in [passage.update_time]
        ]
        await self._keep_history([_version_values(self._organization_id, one.id, kept) for one, kept in written])
        await self._queue(changed)

    async def _keep_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        await self._session.execute(passage_versions.insert(), rows)

    async def _queue(self, changed: Sequence[Passage]) -> None:
        tenant = self._organization_id
        await enqueue(self._session, tenant, MemoryKind.PASSAGE, [passage.id for passage in changed])
        expiries = [(passage.id, passage.expire_time) for passage in changed if passage.expire_time is not None]
        await enqueue_expiry(self._session, tenant, MemoryKind.PASSAGE, expiries)

    async def _in_place(self, given: Sequence[Passage], added: Sequence[Passage]) -> list[Passage]:
        """For each passage given the stored one with its text, which may be older."""
        hashes = [content_hash(passage.text) for passage in given]
        query = sa.select(passages).where(
            passages.c.organization_id == self._organization_id,
            passages.c.agent_id.in_({passage.agent_id for passage in given}),
            passages.c.content_hash.in_(hashes),
            passages.c.delete_time.is_(None),
        )
        known = {(row.agent_id, row.content_hash): _passage(row) for row in await self._session.execute(query)}
        known.update({(passage.agent_id, content_hash(passage.text)): passage for passage in added})
        return [known[passage.agent_id, key] for passage, key in zip(given, hashes, strict=True)]

    async def _mark_deleted(self, which: sa.ColumnElement[bool]) -> None:
        alive = (passages.c.organization_id == self._organization_id, passages.c.delete_time.is_(None), which)
        # The text stays until the applier has taken it out of the index; nothing returns it from here on.
        mark = passages.update().where(*alive).values(delete_time=sa.func.now())
        rows = (await self._session.execute(mark.returning(passages.c.id, passages.c.agent_id))).all()
        await enqueue(self._session, self._organization_id, MemoryKind.PASSAGE, [row.id for row in rows])
        await self._count_out([row.agent_id for row in rows])

    async def _count_out(self, agents: Sequence[uuid.UUID]) -> None:
        """Keeps the numbers right: one agent for each passage that is gone."""
        fewer = {agent_id: -count for agent_id, count in Counter(agents).items()}
        await change_counts(self._session, self._organization_id, passages=fewer)

    def _is(self, passage_id: uuid.UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return (passages.c.organization_id == self._organization_id, passages.c.id == passage_id)


def _version_values(organization_id: uuid.UUID, passage_id: uuid.UUID, version: PassageVersion) -> dict[str, Any]:
    return {
        "passage_id": passage_id,
        "version": version.version,
        "organization_id": organization_id,
        "text": version.text,
        "tags": list(version.tags),
        "metadata": dict(version.metadata),
        "author": version.author,
        "create_time": version.create_time,
    }


def _values(passage: Passage) -> dict[str, Any]:
    return {
        "id": passage.id,
        "organization_id": passage.organization_id,
        "agent_id": passage.agent_id,
        "text": passage.text,
        "tags": list(passage.tags),
        "metadata": dict(passage.metadata),
        "valid_from": passage.valid_from,
        "valid_to": passage.valid_to,
        "expire_time": passage.expire_time,
        "source_message_ids": list(passage.source_message_ids),
        "near_duplicate_of": passage.near_duplicate_of,
        "content_hash": content_hash(passage.text),
        "sketch": sketch(passage.text),
        "version": passage.version,
        "create_time": passage.create_time,
        "update_time": passage.update_time,
    }


def _passage(row: Any) -> Passage:
    return Passage(
        id=row.id,
        organization_id=row.organization_id,
        agent_id=row.agent_id,
        text=row.text,
        tags=tuple(row.tags),
        metadata=row.metadata,
        valid_from=row.valid_from,
        valid_to=row.valid_to,
        expire_time=row.expire_time,
        source_message_ids=tuple(row.source_message_ids),
        near_duplicate_of=row.near_duplicate_of,
        version=row.version,
        create_time=row.create_time,
        update_time=row.update_time,
    )
