"""Messages as recall memory keeps them, in PostgreSQL."""

import uuid
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from memory_svc.domain.messages import RecallMessage
from memory_svc.domain.search import MemoryKind, Scope
from memory_svc.repositories.agents import change_counts, forget, forgotten_among
from memory_svc.repositories.outbox import enqueue, pending_items
from memory_svc.repositories.scopes import MESSAGE_WORDS, message_conditions, words_query
from memory_svc.repositories.tables import messages

_LONGEST_RUN = 2_000


class SqlMessages:
    """A MessageRepository inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: uuid.UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, given: Sequence[RecallMessage]) -> int:
        owners = {message.conversation_id for message in given} | {message.agent_id for message in given}
        gone = await forgotten_among(self._session, self._organization_id, owners)
        rows = [_values(message) for message in given if not gone & {message.conversation_id, message.agent_id}]
        if not rows:
            return 0
        # One order for all writers, so that two batches with the same messages cannot wait for each other.
        rows.sort(key=lambda row: row["id"])
        new = insert(messages).on_conflict_do_nothing().returning(messages.c.id, messages.c.agent_id)
        stored = (await self._session.execute(new, rows)).all()
        await enqueue(self._session, self._organization_id, MemoryKind.MESSAGE, [row.id for row in stored])
        for agent_id in sorted({row.agent_id for row in stored}):
            count = sum(row.agent_id == agent_id for row in stored)
            await change_counts(self._session, self._organization_id, agent_id, messages=count)
        return len(stored)

    async def neighbours(self, conversation_id: uuid.UUID, low: int, high: int, reach: int) -> list[RecallMessage]:
        table, seq = messages, messages.c.seq
        mine = (
            table.c.organization_id == self._organization_id,
            table.c.conversation_id == conversation_id,
            table.c.delete_time.is_(None),
        )
        within = sa.select(table).where(*mine, seq.between(low, high)).order_by(seq).limit(_LONGEST_RUN)
        before = sa.select(table).where(*mine, seq < low).order_by(seq.desc()).limit(reach)
        after = sa.select(table).where(*mine, seq > high).order_by(seq).limit(reach)
        rows = await self._session.execute(sa.union_all(before, within, after))
        return sorted(map(_message, rows), key=lambda message: message.seq)

    async def forget_conversation(self, conversation_id: uuid.UUID) -> None:
        await self._forget(conversation_id, messages.c.conversation_id == conversation_id)

    async def forget_agent(self, agent_id: uuid.UUID) -> None:
        await self._forget(agent_id, messages.c.agent_id == agent_id)

    async def for_index(self, message_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, RecallMessage]:
        return await self.load(Scope(self._organization_id, MemoryKind.MESSAGE), message_ids)

    async def purge(self, message_ids: Collection[uuid.UUID]) -> None:
        await self._session.execute(
            messages.delete().where(
                messages.c.organization_id == self._organization_id,
                messages.c.id.in_(list(message_ids)),
                messages.c.delete_time.is_not(None),
            )
        )

    async def load(self, scope: Scope, item_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, RecallMessage]:
        query = sa.select(messages).where(messages.c.id.in_(list(item_ids)), *message_conditions(scope))
        return {row.id: _message(row) for row in await self._session.execute(query)} if item_ids else {}

    async def pending(self, scope: Scope, size: int) -> list[RecallMessage]:
        waiting = pending_items(self._organization_id, MemoryKind.MESSAGE)
        query = sa.select(messages).where(messages.c.id.in_(waiting), *message_conditions(scope))
        return [_message(row) for row in await self._session.execute(query.order_by(messages.c.id.desc()).limit(size))]

    async def by_words(self, scope: Scope, query: str, size: int) -> list[tuple[RecallMessage, float]]:
        words = words_query(query)
        score = sa.func.ts_rank_cd(MESSAGE_WORDS, words, 1).label("score")
        found = sa.select(messages, score).where(MESSAGE_WORDS.op("@@")(words), *message_conditions(scope))
        rows = await self._session.execute(found.order_by(score.desc(), messages.c.id.desc()).limit(size))
        return [(_message(row), row.score) for row in rows]

    async def _forget(self, owner_id: uuid.UUID, which: sa.ColumnElement[bool]) -> None:
        await forget(self._session, self._organization_id, owner_id)
        alive = (messages.c.organization_id == self._organization_id, messages.c.delete_time.is_(None), which)
        gone = messages.update().where(*alive).values(delete_time=sa.func.now())
        rows = (await self._session.execute(gone.returning(messages.c.id, messages.c.agent_id))).all()
        await enqueue(self._session, self._organization_id, MemoryKind.MESSAGE, [row.id for row in rows])
        for agent_id in sorted({row.agent_id for row in rows}):
            count = sum(row.agent_id == agent_id for row in rows)
            await change_counts(self._session, self._organization_id, agent_id, messages=-count)


def _values(message: RecallMessage) -> dict[str, Any]:
    return {
        "organization_id": message.organization_id,
        "id": message.id,
        "agent_id": message.agent_id,
        "conversation_id": message.conversation_id,
        "seq": message.seq,
        "role": message.role,
        "speaker": message.speaker,
        "text": message.text,
        "create_time": message.create_time,
    }


def _message(row: Any) -> RecallMessage:
    return RecallMessage(
        id=row.id,
        organization_id=row.organization_id,
        agent_id=row.agent_id,
        conversation_id=row.conversation_id,
        seq=row.seq,
        role=row.role,
        speaker=row.speaker,
        text=row.text,
        create_time=row.create_time,
    )
