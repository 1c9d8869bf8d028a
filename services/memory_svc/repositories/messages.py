"""Messages as recall memory keeps them, in PostgreSQL."""

import uuid
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from memory_svc.domain.messages import RecallMessage, Span
from memory_svc.domain.search import MemoryKind, Scope
from memory_svc.repositories.agents import change_counts, forget, forgotten_among
from memory_svc.repositories.outbox import enqueue, newest_position, pending_items
from memory_svc.repositories.scopes import MESSAGE_WORDS, message_conditions, words_query
from memory_svc.repositories.tables import messages

_LONGEST_RUN = 2_000
# All spans in one statement: the applier asks for many conversations at once.
_AROUND = sa.text("""
SELECT span.place, found.*
FROM unnest(CAST(:conversations AS uuid[]), CAST(:lows AS bigint[]), CAST(:highs AS bigint[]))
    WITH ORDINALITY AS span (conversation, low, high, place),
LATERAL (
    (SELECT * FROM messages WHERE organization_id = :organization AND conversation_id = span.conversation
        AND delete_time IS NULL AND seq < span.low ORDER BY seq DESC LIMIT :reach)
    UNION ALL
    (SELECT * FROM messages WHERE organization_id = :organization AND conversation_id = span.conversation
        AND delete_time IS NULL AND seq BETWEEN span.low AND span.high ORDER BY seq LIMIT :longest)
    UNION ALL
    (SELECT * FROM messages WHERE organization_id = :organization AND conversation_id = span.conversation
        AND delete_time IS NULL AND seq > span.high ORDER BY seq LIMIT :reach)
) AS found
""")


class SqlMessages:
    """A MessageRepository inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: uuid.UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, given: Sequence[RecallMessage]) -> tuple[int, int]:
        owners = {message.conversation_id for message in given} | {message.agent_id for message in given}
        gone = await forgotten_among(self._session, self._organization_id, owners)
        rows = [_values(message) for message in given if not gone & {message.conversation_id, message.agent_id}]
        if not rows:
            return 0, await newest_position(self._session, self._organization_id)
        # One order for all writers, so that two batches with the same messages cannot wait for each other.
        rows.sort(key=lambda row: row["id"])
        new = insert(messages).on_conflict_do_nothing().returning(messages.c.id, messages.c.agent_id)
        stored = (await self._session.execute(new, rows)).all()
        await enqueue(self._session, self._organization_id, MemoryKind.MESSAGE, [row.id for row in stored])
        await change_counts(self._session, self._organization_id, messages=Counter(row.agent_id for row in stored))
        return len(stored), await newest_position(self._session, self._organization_id)

    async def around(self, spans: Sequence[Span], reach: int) -> list[list[RecallMessage]]:
        values = {
            "organization": self._organization_id,
            "conversations": [span.conversation_id for span in spans],
            "lows": [span.low for span in spans],
            "highs": [span.high for span in spans],
            "reach": reach,
            "longest": _LONGEST_RUN,
        }
        found: list[list[RecallMessage]] = [[] for _ in spans]
        for row in await self._session.execute(_AROUND, values):
            found[row.place - 1].append(_message(row))
        for one in found:
            one.sort(key=lambda message: message.seq)
        return found

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
        fewer = {agent_id: -count for agent_id, count in Counter(row.agent_id for row in rows).items()}
        await change_counts(self._session, self._organization_id, messages=fewer)


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
