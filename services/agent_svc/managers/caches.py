"""What every turn reads and seldom changes, kept in the process: agents by version, tool schemas, histories."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, TypeVar
from uuid import UUID

from agent_svc.domain.agent import Agent
from agent_svc.domain.conversation import Message
from agent_svc.domain.history import since_summary
from agent_svc.domain.tool import Tool
from agent_svc.interfaces.tools import ToolCatalog
from agent_svc.interfaces.unit_of_work import UnitOfWork
from chassis import ids
from chassis.errors import DomainError

K = TypeVar("K")
V = TypeVar("V")

_MAX_AGENTS = 5_000
_MAX_TOOLS = 20_000
_MAX_HISTORIES = 2_000
_MAX_MESSAGES = 600
# Tool schemas are asked for again when they are older than this; no version of theirs comes with a turn.
TOOL_RECHECK_S = 5.0


class _Bounded(Generic[K, V]):
    """A dictionary that forgets what was used longest ago."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._limit:
            self._values.popitem(last=False)

    def drop(self, key: K) -> None:
        self._values.pop(key, None)


async def read_agent(work: UnitOfWork, organization_id: UUID, agent_id: UUID) -> Agent:
    """An agent as stored. Raises NotFound."""
    async with work.of(organization_id) as transaction:
        agent = await transaction.agents.get(agent_id)
    if agent is None:
        raise ids.absent("agent", agent_id)
    return agent


class AgentCache:
    """Agents as turns need them. The claim of a run tells the version, so what is here is never stale."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work
        self._agents: _Bounded[UUID, Agent] = _Bounded(_MAX_AGENTS)

    async def get(self, organization_id: UUID, agent_id: UUID, version: int) -> Agent:
        """The agent in this version or a newer one. Raises NotFound when it was deleted."""
        known = self._agents.get(agent_id)
        if known is not None and known.version >= version > 0:
            return known
        agent = await read_agent(self._work, organization_id, agent_id)
        self._agents.put(agent_id, agent)
        return agent


class DefaultConversations:
    """The default conversation of agents: made with the agent and gone with it, so it never changes."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work
        self._known: _Bounded[tuple[UUID, UUID], UUID] = _Bounded(_MAX_AGENTS)

    async def of(self, organization_id: UUID, agent_id: UUID) -> UUID:
        """Raises NotFound for an unknown agent."""
        known = self._known.get((organization_id, agent_id))
        if known is None:
            known = (await read_agent(self._work, organization_id, agent_id)).default_conversation_id
            self._known.put((organization_id, agent_id), known)
        return known


class ToolCache:
    """Tool schemas by id, checked again after a few seconds; an old one is better than none while tool_svc is down."""

    def __init__(self, catalog: ToolCatalog) -> None:
        self._catalog = catalog
        self._tools: _Bounded[UUID, tuple[Tool, float]] = _Bounded(_MAX_TOOLS)

    async def get_many(self, tool_ids: Sequence[UUID]) -> list[Tool]:
        """Those that exist, in the order of the ids. Raises DomainError when tools are unknown and cannot be asked for."""
        now = time.monotonic()
        known = {tool_id: entry for tool_id in tool_ids if (entry := self._tools.get(tool_id)) is not None}
        if len(known) < len(tool_ids) or any(now - at > TOOL_RECHECK_S for _, at in known.values()):
            try:
                fresh = await self._catalog.get_many(tool_ids)
            except DomainError:
                if len(known) < len(tool_ids):
                    raise
            else:
                known = {tool.id: (tool, now) for tool in fresh if tool.id is not None}
                for tool_id in tool_ids:
                    entry = known.get(tool_id)
                    if entry is None:
                        self._tools.drop(tool_id)
                    else:
                        self._tools.put(tool_id, entry)
        return [known[tool_id][0] for tool_id in tool_ids if tool_id in known]


class HistoryCache:
    """The newest messages of conversations: messages never change, so only what came since must be read.

    A history is kept up to the newest message that was read from the database, since what a worker wrote itself may have
    others' messages in between.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._histories: _Bounded[UUID, tuple[tuple[Message, ...], int]] = _Bounded(_MAX_HISTORIES)

    def after_seq(self, conversation_id: UUID) -> int:
        """From where on messages must be read; 0 for all."""
        known = self._histories.get(conversation_id)
        return known[0][-1].seq if known else 0

    def join(
        self, conversation_id: UUID, after_seq: int, read: tuple[Message, ...], *, cut: bool
    ) -> tuple[Message, ...]:
        """The whole history: what is kept, and what was read after `after_seq` (unless that has a gap before it)."""
        known, tokens = self._histories.get(conversation_id) or ((), 0)
        if cut or not known or known[-1].seq != after_seq:
            known, tokens = (), 0
        if not read:
            return known
        whole = known + read
        tokens += sum(message.tokens for message in read)
        if any(message.summarized for message in read):
            whole = tuple(since_summary(whole))
            tokens = sum(message.tokens for message in whole)
        self._histories.put(conversation_id, self._newest(whole, tokens))
        return whole

    def forget(self, conversation_id: UUID) -> None:
        """Read all the next time."""
        self._histories.drop(conversation_id)

    def _newest(self, messages: tuple[Message, ...], tokens: int) -> tuple[tuple[Message, ...], int]:
        """Cut in one go to half when it is too much, so that it is not cut at every turn."""
        if tokens <= self._max_tokens and len(messages) <= _MAX_MESSAGES:
            return messages, tokens
        start = 0
        while start < len(messages) - 1 and (
            tokens > self._max_tokens // 2 or len(messages) - start > _MAX_MESSAGES // 2
        ):
            tokens -= messages[start].tokens
            start += 1
        return messages[start:], tokens
