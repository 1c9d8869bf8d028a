"""Agents in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from agent_svc.domain.agent import Agent, AgentSettings
from agent_svc.domain.tool_rules import as_fields, from_fields
from agent_svc.repositories.conversation_repository import delete_conversations
from agent_svc.repositories.tables import agents, conversations
from chassis.errors import AlreadyExists

_NAME_CONSTRAINT = "agents_name"


class PostgresAgents:
    """Implements interfaces.unit_of_work.AgentRepository."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, agent: Agent) -> None:
        await self._write(agents.insert().values(_values(agent)), agent.name)

    async def get(self, agent_id: UUID) -> Agent | None:
        return await self._one(self._select().where(agents.c.id == agent_id))

    async def named(self, name: str) -> Agent | None:
        return await self._one(self._select().where(agents.c.name == name))

    async def get_for_update(self, agent_id: UUID) -> Agent | None:
        return await self._one(self._select().where(agents.c.id == agent_id).with_for_update())

    async def page(self, tags: Sequence[str], text: str, before: UUID | None, limit: int) -> Sequence[Agent]:
        query = self._select().order_by(agents.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(agents.c.id < before)
        if tags:
            query = query.where(agents.c.tags.contains(list(tags)))
        if text:
            matches = agents.c.name.icontains(text, autoescape=True)
            query = query.where(sa.or_(matches, agents.c.description.icontains(text, autoescape=True)))
        return [_agent(row) for row in await self._session.execute(query)]

    async def save(self, agent: Agent) -> None:
        values = _values(agent)
        await self._write(agents.update().where(self._is(agent.id)).values(values), agent.name)

    async def delete(self, agent_id: UUID) -> None:
        # In the order of ids, as everything that locks several conversations.
        mine = (
            sa.select(conversations.c.id)
            .where(conversations.c.agent_id == agent_id, conversations.c.organization_id == self._organization_id)
            .order_by(conversations.c.id)
            .with_for_update()
        )
        gone = (await self._session.execute(mine)).scalars().all()
        await delete_conversations(self._session, self._organization_id, gone)
        await self._session.execute(agents.delete().where(self._is(agent_id)))

    def _select(self) -> sa.Select[Any]:
        return sa.select(agents).where(agents.c.organization_id == self._organization_id)

    def _is(self, agent_id: UUID) -> sa.ColumnElement[bool]:
        return sa.and_(agents.c.id == agent_id, agents.c.organization_id == self._organization_id)

    async def _one(self, query: sa.Select[Any]) -> Agent | None:
        row = (await self._session.execute(query)).first()
        return None if row is None else _agent(row)

    async def _write(self, statement: sa.Executable, name: str) -> None:
        try:
            await self._session.execute(statement)
        except IntegrityError as error:
            if _NAME_CONSTRAINT in str(error.orig):
                raise AlreadyExists(
                    f"an agent named {name!r} exists", reason="NAME_TAKEN", metadata={"name": name}
                ) from None
            raise


def _values(agent: Agent) -> dict[str, Any]:
    return {
        "id": agent.id,
        "organization_id": agent.organization_id,
        "name": agent.name,
        "description": agent.description,
        "model": agent.model,
        "instructions": agent.instructions,
        "tool_ids": list(agent.tool_ids),
        "tags": list(agent.tags),
        "settings": msgspec.to_builtins(agent.settings),
        "metadata": dict(agent.metadata),
        "tool_rules": [{"kind": kind} | fields for kind, fields in map(as_fields, agent.tool_rules)],
        "default_conversation_id": agent.default_conversation_id,
        "version": agent.version,
        "create_time": agent.create_time,
        "update_time": agent.update_time,
    }


def _agent(row: Any) -> Agent:
    return Agent(
        id=row.id,
        organization_id=row.organization_id,
        name=row.name,
        model=row.model,
        instructions=row.instructions,
        default_conversation_id=row.default_conversation_id,
        create_time=row.create_time,
        update_time=row.update_time,
        version=row.version,
        description=row.description,
        tool_ids=tuple(row.tool_ids),
        tags=tuple(row.tags),
        settings=msgspec.convert(row.settings, AgentSettings),
        metadata=row.metadata,
        tool_rules=tuple(from_fields(fields.pop("kind"), fields) for fields in row.tool_rules),
    )
