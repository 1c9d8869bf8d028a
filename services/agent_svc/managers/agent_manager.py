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
        """Raises NotFound, Aborted ETAG_MISMATCH, AlreadyExists NAME_TAKEN, InvalidArgument MODEL_UNKNOWN.

        InvalidArgument too if the tool rules would name a tool that the agent would not have any more.
        """
        if change.name is not None and not change.name.strip():
            raise invalid_field("agent.name", "must not be empty")
        if change.model:
            await self._factory.model_name(change.model)
        if change.tool_ids:
            await self._factory.resolved([ids.encode("tool", tool_id) for tool_id in change.tool_ids])
        if change.settings is not None:
            await self._factory.checked(change.settings)
        checked = await self._check_rules_after(caller, agent_id, change)
        async with self._work.of(caller.organization_id) as transaction:
            found = await transaction.agents.get_for_update(agent_id)
            if found is None:
                raise ids.absent("agent", agent_id)
            if given_etag and given_etag != etag(found.version):
                raise etag_mismatch()
            if checked is not None and checked.version != found.version:
                raise etag_mismatch()
            agent = changed(found, change, datetime.now(UTC))
            await transaction.agents.save(agent)
        return agent

    async def delete(self, caller: Identity, agent_id: UUID) -> None:
        """Removes an agent with its conversations and memory; runs of its stop. Twice is OK, and finishes a first try."""
        async with self._work.of(caller.organization_id) as transaction:
            await transaction.agents.delete(agent_id)
        await self._factory.forget(caller, agent_id)

    async def _check_rules_after(self, caller: Identity, agent_id: UUID, change: AgentChange) -> Agent | None:
        """Looks at rules and tools as they will be; returns the agent that it looked at, None if neither changes."""
        if change.tool_ids is None and not change.tool_rules:
            return None
        found = await self.get(caller, agent_id, "")
        rules = found.tool_rules if change.tool_rules is None else change.tool_rules
        if rules:
            tool_ids = found.tool_ids if change.tool_ids is None else change.tool_ids
            await self._factory.check_rules(rules, tool_ids)
        return found if rules else None


def _no_agent_named(name: str) -> NotFound:
    return NotFound(f"agent {name!r} was not found", reason="RESOURCE_NOT_FOUND", metadata={"resource": name})
