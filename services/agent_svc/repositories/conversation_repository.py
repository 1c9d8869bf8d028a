"""Conversations in PostgreSQL, and what is deleted with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from agent_svc.domain.conversation import Conversation, Message
from agent_svc.domain.event import EncodedEvent
from agent_svc.repositories.message_content import encode_content, message_from_row
from agent_svc.repositories.tables import (
    OF_CONVERSATION,
    conversations,
    dispatches,
    events,
    messages,
    run_counts,
    runs,
)

# Rows that are sent at once.
_FILL_BATCH = 200


class PostgresConversations:
    """Implements interfaces.unit_of_work.ConversationRepository."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, conversation: Conversation) -> None:
        await self._session.execute(
            conversations.insert().values(
                id=conversation.id,
                organization_id=conversation.organization_id,
                agent_id=conversation.agent_id,
                display_name=conversation.display_name,
                version=conversation.version,
                create_time=conversation.create_time,
                update_time=conversation.update_time,
            )
        )

    async def get(self, conversation_id: UUID) -> Conversation | None:
        return await self._one(self._select().where(conversations.c.id == conversation_id))

    async def get_for_update(self, conversation_id: UUID) -> Conversation | None:
        return await self._one(self._select().where(conversations.c.id == conversation_id).with_for_update())

    async def page(self, agent_id: UUID | None, before: UUID | None, limit: int) -> Sequence[Conversation]:
        query = self._select().order_by(conversations.c.id.desc()).limit(limit)
        if agent_id is not None:
            query = query.where(conversations.c.agent_id == agent_id)
        if before is not None:
            query = query.where(conversations.c.id < before)
        return [_conversation(row) for row in await self._session.execute(query)]

    async def rename(self, conversation: Conversation) -> None:
        await self._session.execute(
            conversations.update()
            .where(conversations.c.id == conversation.id, conversations.c.organization_id == self._organization_id)
            .values(
                display_name=conversation.display_name,
                version=conversation.version,
                update_time=conversation.update_time,
            )
        )

    async def delete(self, conversation_id: UUID) -> None:
        await delete_conversations(self._session, self._organization_id, [conversation_id])

    async def messages(
        self, conversation_id: UUID, position: int | None, limit: int, *, newest_first: bool
    ) -> Sequence[Message]:
        columns = messages.c
        query = (
            sa.select(
                columns.seq,
                columns.id,
                columns.run_id,
                columns.run_seq,
                columns.role,
                sa.cast(columns.content, sa.Text),
                columns.create_time,
            )
            .where(columns.conversation_id == conversation_id, columns.organization_id == self._organization_id)
            .order_by(columns.seq.desc() if newest_first else columns.seq)
            .limit(limit)
        )
        if position is not None:
            query = query.where(columns.seq < position if newest_first else columns.seq > position)
        return [_message(row) for row in await self._session.execute(query)]

    async def fill(
        self, conversation_id: UUID, entries: Sequence[tuple[Message, EncodedEvent]], *, indexed: bool
    ) -> None:
        mine = {"conversation_id": conversation_id, "organization_id": self._organization_id}
        for start in range(0, len(entries), _FILL_BATCH):
            batch = entries[start : start + _FILL_BATCH]
            await self._session.execute(
                messages.insert(), [{**mine, **_message_values(message)} for message, _ in batch]
            )
            await self._session.execute(
                events.insert(), [{**mine, **_event_values(event, message)} for message, event in batch]
            )
        seqs = {"head_seq": len(entries), "message_seq": len(entries), "indexed_seq": len(entries) if indexed else 0}
        await self._session.execute(
            conversations.update()
            .where(conversations.c.id == conversation_id, conversations.c.organization_id == self._organization_id)
            .values(seqs)
        )
        if entries and not indexed:
            await self._session.execute(dispatches.insert().values(**mine, due_time=sa.func.now()))

    def _select(self) -> sa.Select[Any]:
        return sa.select(conversations).where(conversations.c.organization_id == self._organization_id)

    async def _one(self, query: sa.Select[Any]) -> Conversation | None:
        row = (await self._session.execute(query)).first()
        return None if row is None else _conversation(row)


def _message_values(message: Message) -> dict[str, Any]:
    return {
        "seq": message.seq,
        "id": message.id,
        "run_id": message.run_id,
        "run_seq": message.run_seq,
        "role": int(message.role),
        "tokens": message.tokens,
        "content": msgspec.json.decode(encode_content(message)),
        "create_time": message.create_time,
    }


def _event_values(event: EncodedEvent, message: Message) -> dict[str, Any]:
    """Epoch 0: no worker wrote it."""
    return {"seq": message.seq, "run_id": message.run_id, "epoch": 0, "type": int(event.type), "body": event.body}


async def delete_conversations(session: AsyncSession, organization_id: UUID, gone: Sequence[UUID]) -> None:
    """Removes conversations with their log. Their rows must be locked: whoever writes to one waits for its row first."""
    if not gone:
        return
    await _count_out(session, organization_id, gone)
    for table in OF_CONVERSATION:
        await session.execute(
            table.delete().where(table.c.conversation_id.in_(gone), table.c.organization_id == organization_id)
        )
    await session.execute(
        conversations.delete().where(conversations.c.id.in_(gone), conversations.c.organization_id == organization_id)
    )


async def _count_out(session: AsyncSession, organization_id: UUID, gone: Sequence[UUID]) -> None:
    """Takes the runs that go with conversations out of the counts: the organization's first, as everybody does."""
    ending = sa.select(runs.c.user_subject, sa.func.count()).where(
        runs.c.conversation_id.in_(gone), runs.c.organization_id == organization_id, runs.c.state.in_((1, 2, 3))
    )
    of_users = {row[0]: row[1] for row in await session.execute(ending.group_by(runs.c.user_subject))}
    fewer = {"": sum(of_users.values()), **{user: count for user, count in sorted(of_users.items()) if user}}
    for user, count in fewer.items():
        mine = (run_counts.c.organization_id == organization_id, run_counts.c.user_subject == user)
        await session.execute(run_counts.update().where(*mine).values(open_runs=run_counts.c.open_runs - count))


def _conversation(row: Any) -> Conversation:
    return Conversation(
        id=row.id,
        organization_id=row.organization_id,
        agent_id=row.agent_id,
        display_name=row.display_name,
        head_seq=row.head_seq,
        create_time=row.create_time,
        update_time=row.update_time,
        version=row.version,
    )


def _message(row: Any) -> Message:
    return message_from_row(tuple(row))
