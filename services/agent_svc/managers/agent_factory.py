"""Makes agents: of what a caller says, of a template, of both. The only place where one comes to be."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent_svc.domain.agent import DEFAULT_BLOCKS, DEFAULT_INSTRUCTIONS, Agent, AgentDraft, AgentSettings
from agent_svc.domain.conversation import Conversation
from agent_svc.domain.memory_tools import BUILT_IN_BY_NAME
from agent_svc.domain.model import ModelError, ModelNotUsable
from agent_svc.domain.tool import Tool
from agent_svc.domain.tool_rules import ToolRule, named
from agent_svc.interfaces.agent_specs import AgentSpecs
from agent_svc.interfaces.identities import Identities
from agent_svc.interfaces.memory import AgentBlocks
from agent_svc.interfaces.model_provider import ModelCatalog
from agent_svc.interfaces.tools import ToolCatalog
from agent_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from agent_svc.managers.template_manager import template_named
from agent_svc.managers.template_rendering import rendered
from chassis import ids
from chassis.errors import DomainError, FailedPrecondition, InvalidArgument, invalid_field
from chassis.identity import Identity, use
from chassis.once import Once

_log = logging.getLogger(__name__)

Fill = Callable[[Transaction, Agent], Awaitable[None]]
Prepare = Callable[[AgentDraft], Awaitable[AgentDraft]]


class AgentFactory:
    """Creates agents, and knows which models, tools and settings one may have."""

    def __init__(
        self,
        work: UnitOfWork,
        models: ModelCatalog,
        tools: ToolCatalog,
        blocks: AgentBlocks,
        identities: Identities,
        specs: AgentSpecs,
    ) -> None:
        self._work = work
        self._models = models
        self._tools = tools
        self._blocks = blocks
        self._identities = identities
        self._specs = specs

    async def create(
        self,
        caller: Identity,
        draft: AgentDraft,
        once: Once[Agent],
        fill: Fill | None = None,
        prepare: Prepare | None = None,
    ) -> Agent:
        """A new agent with its default conversation and blocks, and with what `fill` adds in the same transaction.

        `prepare` has the last word on the draft, once it is known that the request was not answered before.

        The blocks are made in another service before this one's transaction commits: if that fails there is no agent, and
        what was made is forgotten again. Raises AlreadyExists NAME_TAKEN, InvalidArgument MODEL_UNKNOWN, TEMPLATE_INVALID,
        TEMPLATE_VARIABLES_INVALID, NotFound for template, tools and blocks, and what memory and `fill` answer.
        """
        async with self._work.of(caller.organization_id) as transaction, transaction.once(once.key) as answer:
            draft = await self._with_template(transaction, draft)
            if prepare is not None:
                draft = await prepare(draft)
            agent = await self._agent(caller, draft)
            await transaction.agents.add(agent)
            await transaction.conversations.add(_default_conversation(agent))
            if fill is not None:
                await fill(transaction, agent)
            answer.save(once.encode(agent))
            await self._give_blocks(caller, agent, draft)
        return agent

    async def forget(self, caller: Identity, agent_id: UUID) -> None:
        """Removes what memory has of an agent that is no more. Safe to repeat."""
        user = caller.subject if caller.subject.startswith("user_") else caller.on_behalf_of
        with use(await self._identities.identity_for(caller.organization_id, user)):
            await self._blocks.forget_agent(agent_id)

    async def model_name(self, name: str) -> str:
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

    async def checked(self, settings: AgentSettings) -> AgentSettings:
        """The same. Raises InvalidArgument, also MODEL_UNKNOWN."""
        for name in filter(None, (*settings.fallback_models, settings.compaction.model)):
            await self.model_name(name)
        if settings.time_zone:
            try:
                ZoneInfo(settings.time_zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise invalid_field("settings.time_zone", "is not the name of a time zone") from None
        return settings

    async def resolved(self, references: Sequence[str]) -> dict[UUID, Tool]:
        """Tools of the current identity's organization, given by id or by name; each once. Raises NotFound."""
        found: dict[UUID, Tool] = {}
        for reference in references:
            tool = await self._tools.resolve(reference)
            if tool.id is not None:
                found[tool.id] = tool
        return found

    async def check_rules(self, rules: Sequence[ToolRule], tool_ids: Sequence[UUID]) -> None:
        """Raises InvalidArgument if the rules of an agent that is there already name a tool that it would not have."""
        _check_rules(rules, await self._tools.get_many(tool_ids) if tool_ids else (), "agent.")

    async def _with_template(self, transaction: Transaction, draft: AgentDraft) -> AgentDraft:
        if draft.template is not None:
            used = draft.template
            template = await template_named(transaction, used.name, used.version)
            _, base = rendered(template.document, used.variables, self._specs)
            draft = draft.over(base)
        if not draft.name.strip():
            raise invalid_field("name", "must not be empty")
        return draft

    async def _agent(self, caller: Identity, draft: AgentDraft) -> Agent:
        tools = await self.resolved(draft.tools)
        _check_rules(draft.tool_rules, tools.values(), "")
        return Agent(
            id=ids.new(),
            organization_id=caller.organization_id,
            name=draft.name,
            description=draft.description,
            model=await self.model_name(draft.model),
            instructions=draft.instructions or DEFAULT_INSTRUCTIONS,
            tool_ids=tuple(tools),
            tags=draft.tags,
            settings=await self.checked(draft.settings),
            metadata=draft.metadata,
            tool_rules=draft.tool_rules,
            default_conversation_id=ids.new(),
            create_time=(now := datetime.now(UTC)),
            update_time=now,
        )

    async def _give_blocks(self, caller: Identity, agent: Agent, draft: AgentDraft) -> None:
        blocks = draft.blocks or (DEFAULT_BLOCKS if draft.default_blocks and not draft.block_ids else ())
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
            await self.forget(caller, agent_id)
        except DomainError as error:
            _log.warning("blocks of an agent that was not made are left", extra={"reason": error.reason})


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
