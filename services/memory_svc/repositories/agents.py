"""Numbers about an agent's memory, kept in the transactions that change them."""

import uuid

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from memory_svc.interfaces.repositories import AgentMemory
from memory_svc.repositories.tables import agent_blocks, agent_memory, blocks, forgotten


class SqlAgentMemory:
    """An AgentMemoryRepository inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: uuid.UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def summary(self, agent_id: uuid.UUID) -> AgentMemory:
        # One statement: this is read in every turn.
        counts = (
            sa.select(agent_memory.c.passage_count, agent_memory.c.message_count)
            .where(agent_memory.c.organization_id == self._organization_id, agent_memory.c.agent_id == agent_id)
            .subquery()
        )
        attached = (
            sa.select(blocks.c.id, blocks.c.revision, agent_blocks.c.position)
            .join(agent_blocks, agent_blocks.c.block_id == blocks.c.id)
            .where(agent_blocks.c.organization_id == self._organization_id, agent_blocks.c.agent_id == agent_id)
            .subquery()
        )
        always = sa.select(sa.literal(1).label("one")).subquery()
        joined = always.outerjoin(counts, sa.true()).outerjoin(attached, sa.true())
        query = sa.select(counts.c.passage_count, counts.c.message_count, attached.c.id, attached.c.revision)
        rows = (await self._session.execute(query.select_from(joined).order_by(attached.c.position))).all()
        versions = tuple((row.id, row.revision) for row in rows if row.id is not None)
        return AgentMemory(versions, rows[0].passage_count or 0, rows[0].message_count or 0)

    async def is_forgotten(self, agent_id: uuid.UUID) -> bool:
        query = sa.select(forgotten.c.id).where(
            forgotten.c.organization_id == self._organization_id, forgotten.c.id == agent_id
        )
        return (await self._session.execute(query)).first() is not None


async def change_counts(
    session: AsyncSession, organization_id: uuid.UUID, agent_id: uuid.UUID, *, passages: int = 0, messages: int = 0
) -> None:
    """Adds to an agent's numbers."""
    if not passages and not messages:
        return
    row = insert(agent_memory).values(
        organization_id=organization_id, agent_id=agent_id, passage_count=passages, message_count=messages
    )
    added = {
        "passage_count": agent_memory.c.passage_count + row.excluded.passage_count,
        "message_count": agent_memory.c.message_count + row.excluded.message_count,
    }
    key = [agent_memory.c.organization_id, agent_memory.c.agent_id]
    await session.execute(row.on_conflict_do_update(index_elements=key, set_=added))
