"""Conversations in PostgreSQL, and what is deleted with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from agent_svc.domain.conversation import Conversation, Message
from agent_svc.repositories.message_content import message_from_row
from agent_svc.repositories.tables import OF_CONVERSATION, conversations, messages, run_counts, runs


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
