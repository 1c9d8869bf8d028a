"""Agents as files: written from what is stored, and made again, whole or not at all."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

from agent_svc.domain.agent import Agent, AgentDraft, BlockDraft
from agent_svc.domain.conversation import Conversation, MessageRole
from agent_svc.domain.event import MessageCompleted
from agent_svc.domain.export_file import (
    FORMAT,
    AgentRecord,
    BlockRecord,
    ConversationRecord,
    EndRecord,
    ExportedAgent,
    ExportFault,
    HeaderRecord,
    Record,
    ToolRecord,
    encode_record,
    message_record,
    read_export,
)
from agent_svc.domain.log_copy import renumbered
from agent_svc.interfaces.agent_specs import AgentSpecs, BadSpec
from agent_svc.interfaces.event_codec import EventCodec
from agent_svc.interfaces.memory import AgentBlocks
from agent_svc.interfaces.tools import ToolLibrary, ToolSource
from agent_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from agent_svc.managers.agent_factory import AgentFactory
from chassis import ids
from chassis.errors import AlreadyExists, InvalidArgument, not_found
from chassis.identity import Identity
from chassis.once import Once

_PAGE = 100
_UNFINISHED = (1, 2, 3)


class ToolConflict(enum.Enum):
    """What to do where another tool has the name. Numbers as in hearth.agent.v1.ToolConflict."""

    REFUSE = 1
    KEEP = 2
    REPLACE = 3


class ExportManager:
    """Business rules of exports and imports."""

    def __init__(
        self,
        work: UnitOfWork,
        factory: AgentFactory,
        tools: ToolLibrary,
        blocks: AgentBlocks,
        specs: AgentSpecs,
        codec: EventCodec,
    ) -> None:
        self._work = work
        self._factory = factory
        self._tools = tools
        self._blocks = blocks
        self._specs = specs
        self._codec = codec

    async def export(self, caller: Identity, agent_id: UUID) -> AsyncIterator[bytes]:
        """The lines of the file. What a run writes that has not ended is left out. Raises NotFound."""
        count = 0
        async for record in self._records(caller, agent_id):
            count += 1
            yield encode_record(record)
        yield encode_record(EndRecord(count))

    async def import_(
        self, caller: Identity, data: bytes, name: str, conflict: ToolConflict, once: Once[Agent]
    ) -> Agent:
        """A new agent as the file says. Everything is checked before anything is made.

        Tools are made first, in their own service, and stay if what follows fails: trying again finds them. All else becomes
        visible at once. Raises InvalidArgument EXPORT_INVALID, AlreadyExists NAME_TAKEN, NotFound for a tool that is only named,
        and what AgentFactory.create raises.
        """
        exported = _read(data)
        draft = self._draft(exported, name)

        async def fill(transaction: Transaction, agent: Agent) -> None:
            for conversation in exported.conversations:
                conversation_id = agent.default_conversation_id
                made = Conversation(
                    conversation_id,
                    agent.organization_id,
                    agent.id,
                    conversation.display_name,
                    0,
                    agent.create_time,
                    agent.create_time,
                )
                if conversation.default:
                    await transaction.conversations.rename(made)
                else:
                    made = replace(made, id=ids.new())
                    await transaction.conversations.add(made)
                messages = renumbered(conversation.messages, ids.new)
                entries = [(one, self._codec.encode(MessageCompleted(one), one.create_time)) for one in messages]
                await transaction.conversations.fill(made.id, entries, indexed=False)

        async def prepare(draft: AgentDraft) -> AgentDraft:
            return replace(draft, tools=await self._give_tools(exported, conflict))

        return await self._factory.create(caller, draft, once, fill, prepare)

    async def _records(self, caller: Identity, agent_id: UUID) -> AsyncIterator[Record]:
        async with self._work.of(caller.organization_id) as transaction:
            agent = await transaction.agents.get(agent_id)
        if agent is None:
            raise ids.absent("agent", agent_id)
        yield HeaderRecord(FORMAT)
        names: list[str] = []
        for number, tool in enumerate(await self._tools.sources(agent.tool_ids), 1):
            names.append(f"tool-{number}")
            yield ToolRecord(names[-1], tool.name, tool.spec)
        for block in await self._blocks.blocks_of(agent.id):
            yield BlockRecord(block.label, block.value, block.description, block.limit, block.read_only)
        yield AgentRecord(self._specs.encode(agent), names)
        for number, conversation in enumerate(await self._conversations(caller, agent.id), 1):
            local = f"conversation-{number}"
            default = conversation.id == agent.default_conversation_id
            yield ConversationRecord(local, conversation.display_name, default)
            async for record in self._messages(caller, conversation, local):
                yield record

    async def _conversations(self, caller: Identity, agent_id: UUID) -> list[Conversation]:
        """Oldest first."""
        found: list[Conversation] = []
        while True:
            async with self._work.of(caller.organization_id) as transaction:
                page = await transaction.conversations.page(agent_id, found[-1].id if found else None, _PAGE)
            found += page
            if len(page) < _PAGE:
                return found[::-1]

    async def _messages(self, caller: Identity, conversation: Conversation, local: str) -> AsyncIterator[Record]:
        # In this order: what had begun at this head and is not unfinished now has ended, and all of it is there.
        head = conversation.head_seq
        async with self._work.of(caller.organization_id) as transaction:
            unfinished = {
                run.id for run in await transaction.runs.page(None, conversation.id, _UNFINISHED, None, 10_000)
            }
        runs: dict[UUID, str] = {}
        position: int | None = None
        while True:
            async with self._work.of(caller.organization_id) as transaction:
                page = await transaction.conversations.messages(conversation.id, position, _PAGE, newest_first=False)
            for message in page:
                # A summary says nothing that the messages do not: whoever has them sums up anew.
                if (
                    message.role is not MessageRole.SUMMARY
                    and message.run_seq <= head
                    and message.run_id not in unfinished
                ):
                    run = runs.setdefault(message.run_id, f"run-{len(runs) + 1}")
                    yield message_record(message, local, run)
            if len(page) < _PAGE:
                return
            position = page[-1].seq

    def _draft(self, exported: ExportedAgent, name: str) -> AgentDraft:
        try:
            values = {**exported.spec, **({"name": name} if name else {})}
            if "tools" in values or "blocks" in values:
                raise _invalid("tools and blocks are records of their own", exported.line)
            draft = self._specs.decode(values)
        except BadSpec as bad:
            fault = bad.faults[0]
            raise _invalid(f"spec.{fault.path}: {fault.description}", exported.line) from None
        blocks = tuple(BlockDraft(b.label, b.value, b.description, b.limit, b.read_only) for b in exported.blocks)
        return replace(draft, blocks=blocks, default_blocks=False)

    async def _give_tools(self, exported: ExportedAgent, conflict: ToolConflict) -> tuple[str, ...]:
        """The names of the agent's tools, all of which are there then."""
        to_make: list[ToolSource] = []
        for record, line in exported.tools:
            there = await self._tools.named(record.name)
            if record.spec is None:
                if there is None:
                    raise not_found("tool", record.name)
                continue
            try:
                wanted = await self._tools.checked(record.name, record.spec)
            except BadSpec as bad:
                raise _invalid(f"spec: {bad.faults[0].description}", line) from None
            if there is None or (there.spec != wanted.spec and conflict is ToolConflict.REPLACE):
                to_make.append(wanted)
            elif there.spec != wanted.spec and conflict is ToolConflict.REFUSE:
                raise AlreadyExists(
                    f"another tool named {record.name!r} exists", reason="NAME_TAKEN", metadata={"name": record.name}
                )
        for source in to_make:
            await self._tools.put(source)
        return tuple(record.name for record, _ in exported.tools)


def _read(data: bytes) -> ExportedAgent:
    try:
        return read_export(data)
    except ExportFault as fault:
        raise _invalid(fault.message, fault.line) from None


def _invalid(message: str, line: int) -> InvalidArgument:
    return InvalidArgument(f"line {line}: {message}", reason="EXPORT_INVALID", metadata={"line": str(line)})
