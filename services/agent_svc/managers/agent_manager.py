"""Agents: made with their blocks and default conversation, changed, removed with all that was theirs."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent_svc.domain.agent import DEFAULT_BLOCKS, DEFAULT_INSTRUCTIONS, Agent, AgentDraft, AgentSettings
from agent_svc.domain.changes import AgentChange, changed, etag
from agent_svc.domain.conversation import Conversation
from agent_svc.domain.memory_tools import BUILT_IN_BY_NAME
from agent_svc.domain.model import ModelError, ModelNotUsable
from agent_svc.domain.tool import Tool
from agent_svc.domain.tool_rules import ToolRule, named
from agent_svc.interfaces.identities import Identities
from agent_svc.interfaces.memory import AgentBlocks
from agent_svc.interfaces.model_provider import ModelCatalog
from agent_svc.interfaces.tools import ToolCatalog
from agent_svc.interfaces.unit_of_work import UnitOfWork
from chassis import ids
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound, etag_mismatch, invalid_field
from chassis.identity import Identity, use
from chassis.once import Once

_log = logging.getLogger(__name__)


class AgentManager:
    """Business rules of agents."""

    def __init__(
        self,
        work: UnitOfWork,
        models: ModelCatalog,
        tools: ToolCatalog,
        blocks: AgentBlocks,
        identities: Identities,
    ) -> None:
        self._work = work
        self._models = models
        self._tools = tools
        self._blocks = blocks
        self._identities = identities

    async def create(self, caller: Identity, draft: AgentDraft, once: Once[Agent]) -> Agent:
        """A new agent with its default conversation and blocks.

        The blocks are made in another service before this one's transaction commits: if that fails there is no agent, and
        what was made is forgotten again. Raises AlreadyExists NAME_TAKEN, InvalidArgument MODEL_UNKNOWN, NotFound for tools
        and blocks, and what memory answers.
        """
        tools = await self._resolved(draft.tools)
        _check_rules(draft.tool_rules, tools.values(), "")
        agent = Agent(
            id=ids.new(),
            organization_id=caller.organization_id,
            name=draft.name,
            description=draft.description,
            model=await self._model_name(draft.model),
            instructions=draft.instructions or DEFAULT_INSTRUCTIONS,
            tool_ids=tuple(tools),
            tags=draft.tags,
            settings=await self._checked(draft.settings),
            metadata=draft.metadata,
            tool_rules=draft.tool_rules,
            default_conversation_id=ids.new(),
            create_time=(now := datetime.now(UTC)),
            update_time=now,
        )
        async with self._work.of(caller.organization_id) as transaction, transaction.once(once.key) as answer:
            await transaction.agents.add(agent)
            await transaction.conversations.add(_default_conversation(agent))
            answer.save(once.encode(agent))
            await self._give_blocks(caller, agent, draft)
        return agent

    async def _give_blocks(self, caller: Identity, agent: Agent, draft: AgentDraft) -> None:
        blocks = draft.blocks or (() if draft.block_ids else DEFAULT_BLOCKS)
        try:
            for block in blocks:
                await self._blocks.create_block(agent.id, block, uuid.uuid5(agent.id, block.label))
            for block_id in draft.block_ids:
                await self._blocks.attach_block(agent.id, block_id)
        except BaseException:
            await self._forget_quietly(caller, agent.id)
            raise

    async def _forget_quietly(self, caller: Identity, agent_id: UUID) -> None:
        try:
            await self._forget(caller, agent_id)
        except DomainError as error:
            _log.warning("blocks of an agent that was not made are left", extra={"reason": error.reason})

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
            await self._model_name(change.model)
        if change.tool_ids:
            await self._resolved([ids.encode("tool", tool_id) for tool_id in change.tool_ids])
        if change.settings is not None:
            await self._checked(change.settings)
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
        await self._forget(caller, agent_id)

    async def _forget(self, caller: Identity, agent_id: UUID) -> None:
        user = caller.subject if caller.subject.startswith("user_") else caller.on_behalf_of
        with use(await self._identities.identity_for(caller.organization_id, user)):
            await self._blocks.forget_agent(agent_id)

    async def _model_name(self, name: str) -> str:
        """Empty stays empty: the default of the day. Raises InvalidArgument MODEL_UNKNOWN for names that no provider has.

        A model whose provider is not configured now may be named: its runs say what is missing.
        """
        if not name:
            return ""
        try:
            return (await self._models.resolve(name)).name
        except ModelNotUsable as error:
            if error.named_well:
                return name
            raise InvalidArgument(error.message, reason="MODEL_UNKNOWN", metadata={"model": name}) from None
        except ModelError as error:
            raise FailedPrecondition(error.message, reason="MODEL_NOT_CONFIGURED") from None

    async def _checked(self, settings: AgentSettings) -> AgentSettings:
        for name in filter(None, (*settings.fallback_models, settings.compaction.model)):
            await self._model_name(name)
        if settings.time_zone:
            try:
                ZoneInfo(settings.time_zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise invalid_field("settings.time_zone", "is not the name of a time zone") from None
        return settings

    async def _check_rules_after(self, caller: Identity, agent_id: UUID, change: AgentChange) -> Agent | None:
        """Looks at rules and tools as they will be; returns the agent that it looked at, None if neither changes."""
        if change.tool_ids is None and not change.tool_rules:
            return None
        found = await self.get(caller, agent_id, "")
        rules = found.tool_rules if change.tool_rules is None else change.tool_rules
        if not rules:
            return None
        tool_ids = found.tool_ids if change.tool_ids is None else change.tool_ids
        _check_rules(rules, await self._tools.get_many(tool_ids) if tool_ids else (), "agent.")
        return found

    async def _resolved(self, references: Sequence[str]) -> dict[UUID, Tool]:
        found: dict[UUID, Tool] = {}
        for reference in references:
            tool = await self._tools.resolve(reference)
            if tool.id is not None:
                found[tool.id] = tool
        return found


def _check_rules(rules: Sequence[ToolRule], tools: Iterable[Tool], below: str) -> None:
    """Raises InvalidArgument for the first name in the rules that none of the tools has, nor a built-in one."""
    if not rules:
        return
    names = {tool.name for tool in tools} | BUILT_IN_BY_NAME.keys()
    for path, name in named(rules):
        if name not in names:
            raise invalid_field(below + path, f"names {name!r}, which is not a tool of the agent")


def _default_conversation(agent: Agent) -> Conversation:
    return Conversation(
        id=agent.default_conversation_id,
        organization_id=agent.organization_id,
        agent_id=agent.id,
        display_name="",
        head_seq=0,
        create_time=agent.create_time,
        update_time=agent.create_time,
    )


def _no_agent_named(name: str) -> NotFound:
    return NotFound(f"agent {name!r} was not found", reason="RESOURCE_NOT_FOUND", metadata={"resource": name})
