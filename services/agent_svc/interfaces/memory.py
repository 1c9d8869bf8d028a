"""What the agent loop and the managers need of memory. All act as the current identity and raise DomainError."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from agent_svc.domain.agent import BlockDraft
from agent_svc.domain.log import Unindexed
from agent_svc.domain.prompt import CompiledMemory


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """What a change of memory touched: a wire id, and the block's label if it was a block."""

    resource_id: str
    block_label: str = ""


class ContextCompiler(Protocol):
    """Memory's part of a turn."""

    async def compile(
        self, agent_id: UUID, conversation_id: UUID, text: str, *, recall_tokens: int, exclude_from_seq: int
    ) -> CompiledMemory:
        """Core memory rendered, and what is recalled for the text within `recall_tokens` (0: nothing).

        Messages of the conversation from `exclude_from_seq` on are in the context anyway.
        """
        ...


class AgentMemory(Protocol):
    """What the built-in tools do. `request_id` makes a change safe to repeat."""

    async def append(self, agent_id: UUID, label: str, text: str, request_id: UUID) -> MemoryChange: ...

    async def replace(self, agent_id: UUID, label: str, old: str, new: str, request_id: UUID) -> MemoryChange: ...

    async def insert(self, agent_id: UUID, text: str, tags: Sequence[str], request_id: UUID) -> MemoryChange: ...

    async def search_passages(self, agent_id: UUID, query: str, top_k: int) -> Sequence[str]:
        """Hits as lines for the model, best first."""
        ...

    async def search_messages(self, agent_id: UUID, query: str, top_k: int) -> Sequence[str]:
        """Hits as lines for the model, best first."""
        ...


class AgentBlocks(Protocol):
    """The blocks of agents that come and go."""

    async def create_block(self, agent_id: UUID, block: BlockDraft, request_id: UUID) -> None: ...

    async def attach_block(self, agent_id: UUID, block_id: str) -> None: ...

    async def blocks_of(self, agent_id: UUID) -> Sequence[BlockDraft]:
        """What would make the agent's blocks, by label."""
        ...

    async def forget_agent(self, agent_id: UUID) -> None:
        """Removes what only this agent had. Safe to repeat."""
        ...

    async def forget_conversation(self, conversation_id: UUID) -> None:
        """Removes its messages from recall memory. Safe to repeat."""
        ...


class RecallIndex(Protocol):
    """Makes messages searchable."""

    async def index(self, conversations: Sequence[Unindexed]) -> None:
        """At once and durably; indexing twice is harmless."""
        ...
