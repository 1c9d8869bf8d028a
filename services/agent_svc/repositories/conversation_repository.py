"""Conversations in PostgreSQL, and what is deleted with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from agent_svc.domain.conversation import Conversation, Message
from agent_svc.repositories.message_content import message_from_row
from agent_svc.repositories.tables import OF_CONVERSATION, conversations, messages


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

    def _select(self) -> sa.Select[Any]:
        return sa.select(conversations).where(conversations.c.organization_id == self._organization_id)

    async def _one(self, query: sa.Select[Any]) -> Conversation | None:
        row = (await self._session.execute(query)).first()
        return None if row is None else _conversation(row)


async def delete_conversations(session: AsyncSession, organization_id: UUID, gone: Sequence[UUID]) -> None:
    """Removes conversations with their log. Their rows must be locked: whoever writes to one waits for its row first."""
    if not gone:
        return
    for table in OF_CONVERSATION:
        await session.execute(
            table.delete().where(table.c.conversation_id.in_(gone), table.c.organization_id == organization_id)
        )
    await session.execute(
        conversations.delete().where(conversations.c.id.in_(gone), conversations.c.organization_id == organization_id)
    )


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
