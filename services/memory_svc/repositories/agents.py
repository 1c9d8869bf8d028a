"""Numbers about an agent's memory, kept in the transactions that change them."""

import uuid
from collections.abc import Collection, Mapping
from types import MappingProxyType

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.database import Database
from memory_svc.interfaces.repositories import AgentMemory
from memory_svc.repositories.tables import agent_memory, forgotten, organization_memory

_NONE: Mapping[uuid.UUID, int] = MappingProxyType({})
_SUMMARY = """
SELECT counts.passage_count, counts.message_count, attached.id, attached.revision
FROM (SELECT 1) AS always
LEFT JOIN (
    SELECT passage_count, message_count FROM agent_memory
    WHERE organization_id = %(organization)s AND agent_id = %(agent)s
) AS counts ON true
LEFT JOIN (
    SELECT blocks.id, blocks.revision, agent_blocks.position FROM agent_blocks
    JOIN blocks ON blocks.id = agent_blocks.block_id
    WHERE agent_blocks.organization_id = %(organization)s AND agent_blocks.agent_id = %(agent)s
) AS attached ON true
ORDER BY attached.position
"""


class SqlAgentMemorySummaries:
    """Implements AgentMemorySummaries in one round trip: it is asked in every turn."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def summary(self, organization_id: uuid.UUID, agent_id: uuid.UUID) -> AgentMemory:
        values = {"organization": organization_id, "agent": agent_id}
        rows = await self._database.read(organization_id, _SUMMARY, values)
        versions = tuple((row["id"], row["revision"]) for row in rows if row["id"] is not None)
        return AgentMemory(versions, rows[0]["passage_count"] or 0, rows[0]["message_count"] or 0)


class SqlAgentMemory:
    """An AgentMemoryRepository inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: uuid.UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def is_forgotten(self, agent_id: uuid.UUID) -> bool:
        return bool(await forgotten_among(self._session, self._organization_id, [agent_id]))


async def forgotten_among(
    session: AsyncSession, organization_id: uuid.UUID, owners: Collection[uuid.UUID]
) -> set[uuid.UUID]:
    """Which of these agents and conversations were deleted; until the transaction ends, none of them is."""
    # The lock first and in a statement of its own: what is read after it is what `forget` committed before it.
    await _lock(session, owners, "pg_advisory_xact_lock_shared")
    query = sa.select(forgotten.c.id).where(
        forgotten.c.organization_id == organization_id, forgotten.c.id.in_(list(owners))
    )
    return set((await session.execute(query)).scalars())


async def forget(session: AsyncSession, organization_id: uuid.UUID, owner_id: uuid.UUID) -> None:
    """Marks an agent or conversation as deleted, once who is adding to it has finished."""
    await _lock(session, [owner_id], "pg_advisory_xact_lock")
    mark = insert(forgotten).values(organization_id=organization_id, id=owner_id)
    await session.execute(mark.on_conflict_do_nothing())


async def _lock(session: AsyncSession, owners: Collection[uuid.UUID], function: str) -> None:
    # A UUID's last 63 bits are random: a lock shared by chance only makes someone wait.
    keys = sorted(owner.int & (2**63 - 1) for owner in owners)
    key = sa.func.unnest(sa.cast(keys, sa.ARRAY(sa.BigInteger))).column_valued("key")
    await session.execute(sa.select(getattr(sa.func, function)(key)))


async def change_counts(
    session: AsyncSession,
    organization_id: uuid.UUID,
    *,
    passages: Mapping[uuid.UUID, int] = _NONE,
    messages: Mapping[uuid.UUID, int] = _NONE,
) -> None:
    """Adds to the numbers of agents and of the organization, in one order for all writers, so that none waits for another in a circle.

    Once in a transaction: the organization's row comes after all those of agents.
    """
    rows = [
        {
            "organization_id": organization_id,
            "agent_id": agent_id,
            "passage_count": passages.get(agent_id, 0),
            "message_count": messages.get(agent_id, 0),
        }
        for agent_id in sorted(passages.keys() | messages.keys())
    ]
    if not rows:
        return
    row = insert(agent_memory).values(rows)
    added = {
        "passage_count": agent_memory.c.passage_count + row.excluded.passage_count,
        "message_count": agent_memory.c.message_count + row.excluded.message_count,
    }
    key = [agent_memory.c.organization_id, agent_memory.c.agent_id]
    await session.execute(row.on_conflict_do_update(index_elements=key, set_=added))
    if total := sum(passages.values()):
        whole = insert(organization_memory).values(organization_id=organization_id, passage_count=total)
        more = {"passage_count": organization_memory.c.passage_count + whole.excluded.passage_count}
        await session.execute(
            whole.on_conflict_do_update(index_elements=[organization_memory.c.organization_id], set_=more)
        )


async def passage_total(session: AsyncSession, organization_id: uuid.UUID) -> int:
    """How many passages an organization has; after a change in the same transaction, until the commit."""
    query = sa.select(organization_memory.c.passage_count)
    query = query.where(organization_memory.c.organization_id == organization_id)
    return (await session.execute(query)).scalar_one_or_none() or 0
