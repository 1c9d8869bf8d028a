"""Agents: read, changed, removed with all that was theirs. An AgentFactory makes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from agent_svc.domain.agent import Agent
from agent_svc.domain.changes import AgentChange, changed, etag
from agent_svc.interfaces.unit_of_work import UnitOfWork
from agent_svc.managers.agent_factory import AgentFactory
from chassis import ids
from chassis.errors import NotFound, etag_mismatch, invalid_field
from chassis.identity import Identity


class AgentManager:
    """Business rules of agents."""

    def __init__(self, work: UnitOfWork, factory: AgentFactory) -> None:
        self._work = work
        self._factory = factory

    async def get(self, caller: Identity, agent_id: UUID | None, name: str) -> Agent:
        """By id, or by name. Raises NotFound."""
        async with self._work.of(caller.organization_id) as transaction:
            if agent_id is not None:
                found = await transaction.agents.get(agent_id)
            else:
                found = await transaction.agents.named(name)
        if found is None:
            raise ids.absent("agent", agent_id) if agent_id else _no_agent_named(name)
        return found

    async def page(
        self, caller: Identity, tags: Sequence[str], text: str, before: UUID | None, size: int
    ) -> tuple[Sequence[Agent], bool]:
        """Newest first, and whether there are more."""
        async with self._work.of(caller.organization_id) as transaction:
            found = await transaction.agents.page(tags, text, before, size + 1)
        return found[:size], len(found) > size

    async def update(self, caller: Identity, agent_id: UUID, change: AgentChange, given_etag: str) -> Agent:
        """Raises NotFound, Aborted ETAG_MISMATCH, AlreadyExists NAME_TAKEN, InvalidArgument MODEL_UNKNOWN."""
        if change.name is not None and not change.name.strip():
            raise invalid_field("agent.name", "must not be empty")
        if change.model:
            await self._factory.model_name(change.model)
        if change.tool_ids:
            await self._factory.tool_ids([ids.encode("tool", tool_id) for tool_id in change.tool_ids])
        if change.settings is not None:
            await self._factory.checked(change.settings)
        async with self._work.of(caller.organization_id) as transaction:
            found = await transaction.agents.get_for_update(agent_id)
            if found is None:
                raise ids.absent("agent", agent_id)
            if given_etag and given_etag != etag(found.version):
                raise etag_mismatch()
            agent = changed(found, change, datetime.now(UTC))
            await transaction.agents.save(agent)
        return agent

    async def delete(self, caller: Identity, agent_id: UUID) -> None:
        """Removes an agent with its conversations and memory; runs of its stop. Twice is OK, and finishes a first try."""
        async with self._work.of(caller.organization_id) as transaction:
            await transaction.agents.delete(agent_id)
        await self._factory.forget(caller, agent_id)


def _no_agent_named(name: str) -> NotFound:
    return NotFound(f"agent {name!r} was not found", reason="RESOURCE_NOT_FOUND", metadata={"resource": name})
