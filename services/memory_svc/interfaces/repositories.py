"""The roles of storage. All calls happen inside a unit of work, which has set the organization."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from memory_svc.domain.blocks import Block, BlockVersion
from memory_svc.domain.messages import RecallMessage, Span
from memory_svc.domain.passages import ImportProgress, Passage
from memory_svc.domain.search import MemoryKind, Scope
from memory_svc.domain.transfer import BlockRecord, PassageRecord

Found = TypeVar("Found", covariant=True)


@dataclass(frozen=True, slots=True)
class AgentMemory:
    """What a turn needs to know before it reads anything: which blocks, in which revision, and how much there is."""

    blocks: tuple[tuple[uuid.UUID, int], ...]
    passage_count: int
    message_count: int


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An item whose place in the index must be looked after. Holds ids only."""

    id: int
    organization_id: uuid.UUID
    kind: MemoryKind
    item_id: uuid.UUID


class BlockRepository(Protocol):
    """Blocks, their history, and which agents have them."""

    async def add(self, block: Block) -> None:
        """Stores a new block."""
        ...

    async def get(self, block_id: uuid.UUID, *, lock: bool = False) -> Block | None:
        """The block with its agents; locked against other writers until the transaction ends if asked."""
        ...

    async def find_attached(self, agent_id: uuid.UUID, label: str) -> uuid.UUID | None:
        """The block that an agent has under a label."""
        ...

    async def page(
        self, agent_id: uuid.UUID | None, label: str, after: tuple[str, uuid.UUID] | None, size: int
    ) -> list[Block]:
        """Blocks by label, then id, after a position."""
        ...

    async def of_agent(self, agent_id: uuid.UUID) -> list[Block]:
        """An agent's blocks in the order in which they were attached; `agent_ids` is left empty."""
        ...

    async def save(self, block: Block) -> None:
        """Writes a changed block."""
        ...

    async def delete(self, block_id: uuid.UUID) -> None:
        """Removes the block, its history and attachments."""
        ...

    async def attach(self, block: Block, agent_id: uuid.UUID) -> bool:
        """Gives the block to an agent; False where it has another block with that label. Twice is fine."""
        ...

    async def detach(self, block_id: uuid.UUID, agent_id: uuid.UUID) -> None:
        """Takes the block from an agent."""
        ...

    async def detach_all(self, agent_id: uuid.UUID) -> None:
        """Takes all blocks from an agent and removes those that no other agent has."""
        ...

    async def restore(self, block: Block) -> bool:
        """Stores a block as it was elsewhere; False where one with its id is there."""
        ...

    async def records(self, agent_id: uuid.UUID | None, after: uuid.UUID | None, size: int) -> list[BlockRecord]:
        """Blocks with their history, by id, after a position; of one agent or of all."""
        ...

    async def add_version(self, version: BlockVersion) -> None:
        """Stores one version."""
        ...

    async def versions(self, block_id: uuid.UUID, before: int | None, size: int) -> list[BlockVersion]:
        """Versions, newest first, older than `before`."""
        ...

    async def version(self, block_id: uuid.UUID, version: int) -> BlockVersion | None:
        """One version."""
        ...


class Shelf(Protocol[Found]):
    """What a search needs of the place where items are kept."""

    async def load(self, scope: Scope, item_ids: Collection[uuid.UUID]) -> Mapping[uuid.UUID, Found]:
        """Of the items named, those that exist and lie in the scope now."""
        ...

    async def pending(self, scope: Scope, size: int) -> Sequence[Found]:
        """The newest items in the scope whose place in the index is not up to date."""
        ...

    async def by_words(self, scope: Scope, query: str, size: int) -> Sequence[tuple[Found, float]]:
        """The items that fit a query by words alone, best first, with scores: for when the index does not answer."""
        ...


class PassageRepository(Shelf[Passage], Protocol):
    """Passages and their history. Every change adds an outbox entry in the same transaction."""

    async def add(self, given: Sequence[Passage], author: str) -> tuple[list[Passage], int]:
        """Stores passages; where the agent has the same text already, the old one is returned in its place.

        Returns one passage for each given, in order, and the outbox position after which all are indexed.
        """
        ...

    async def total(self) -> int:
        """How many there are in the organization; after a change in this transaction, nobody else changes it before the end."""
        ...

    async def get(self, passage_id: uuid.UUID, *, lock: bool = False) -> Passage | None:
        """A passage that is not deleted or expired."""
        ...

    async def page(self, agent_id: uuid.UUID | None, tags: Scope, before: uuid.UUID | None, size: int) -> list[Passage]:
        """Passages, newest first, older than `before`; of the scope only the tags count."""
        ...

    async def save(self, passage: Passage, author: str) -> bool:
        """Writes a changed passage; False where the agent has another one with that text."""
        ...

    async def delete(self, passage_id: uuid.UUID) -> None:
        """Marks a passage as deleted: nothing returns it from then on."""
        ...

    async def restore(self, record: PassageRecord) -> bool:
        """Stores a passage as it was elsewhere; False where one with its id or its agent's with its text is there."""
        ...

    async def records(self, agent_id: uuid.UUID | None, after: uuid.UUID | None, size: int) -> list[PassageRecord]:
        """Passages with their history, by id, after a position; of one agent or of all."""
        ...

    async def delete_of_agent(self, agent_id: uuid.UUID) -> None:
        """Marks all of an agent's passages as deleted."""
        ...

    async def for_index(self, passage_ids: Collection[uuid.UUID]) -> Mapping[uuid.UUID, Passage]:
        """Of the passages named, those that belong into the index."""
        ...

    async def purge(self, passage_ids: Collection[uuid.UUID]) -> None:
        """Removes the rows of passages that are deleted or expired, history included."""
        ...


class ImportRepository(Protocol):
    """How far imports of passages are."""

    async def begin(self, import_id: uuid.UUID, agent_id: uuid.UUID, now: datetime) -> ImportProgress:
        """How far an import is, which begins with this if it is new; locked until the transaction ends."""
        ...

    async def save(self, progress: ImportProgress, now: datetime) -> None:
        """Writes how far it is."""
        ...


class MessageRepository(Shelf[RecallMessage], Protocol):
    """Messages as recall memory has them."""

    async def add(self, given: Sequence[RecallMessage]) -> tuple[int, int]:
        """Stores messages that are new, unless their conversation or agent was forgotten.

        Returns how many were new, and the outbox position after which all are indexed.
        """
        ...

    async def around(self, spans: Sequence[Span], reach: int) -> list[list[RecallMessage]]:
        """For each span its messages and up to `reach` before and after them, in order."""
        ...

    async def forget_conversation(self, conversation_id: uuid.UUID) -> None:
        """Marks a conversation's messages as deleted and takes no more of it."""
        ...

    async def forget_agent(self, agent_id: uuid.UUID) -> None:
        """Marks an agent's messages as deleted and takes no more of it."""
        ...

    async def for_index(self, message_ids: Collection[uuid.UUID]) -> Mapping[uuid.UUID, RecallMessage]:
        """Of the messages named, those that belong into the index."""
        ...

    async def purge(self, message_ids: Collection[uuid.UUID]) -> None:
        """Removes the rows of messages that are deleted."""
        ...


class AgentMemorySummaries(Protocol):
    """What is read of an agent's memory in every turn, outside of any transaction."""

    async def summary(self, organization_id: uuid.UUID, agent_id: uuid.UUID) -> AgentMemory:
        """Which blocks, and how much of the rest."""
        ...


class AgentMemoryRepository(Protocol):
    """What is known of an agent whose memory this is."""

    async def is_forgotten(self, agent_id: uuid.UUID) -> bool:
        """Whether the agent was deleted: it gets no new memory."""
        ...


class Outbox(Protocol):
    """What is to be done to the index, over all organizations: ids only."""

    async def claim(self, size: int) -> list[OutboxEntry]:
        """The oldest due entries that nobody else holds; held until the transaction ends."""
        ...

    async def has_waiting(self) -> bool:
        """Whether there is any entry, postponed ones included; expiries to come do not count."""
        ...

    async def remove(self, entry_ids: Collection[int]) -> None:
        """These are done."""
        ...

    async def postpone(self, entry_ids: Collection[int], until: datetime) -> None:
        """These failed and are tried again later."""
        ...

    async def is_applied(self, organization_id: uuid.UUID, position: int) -> bool:
        """Whether everything of an organization up to a position is in the index."""
        ...

    async def organizations(self) -> list[uuid.UUID]:
        """All organizations that ever had something to index."""
        ...

    async def enqueue_everything(self, organization_id: uuid.UUID) -> int:
        """Adds an entry for each item of the organization (which the transaction must be set to). Returns how many."""
        ...

    async def enqueue(self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Sequence[uuid.UUID]) -> None:
        """Adds an entry for each of the items."""
        ...

    async def newest_position(self, organization_id: uuid.UUID | None) -> int:
        """The last entry, of one organization or of all; 0 without any."""
        ...

    async def is_drained(self, position: int) -> bool:
        """Whether all entries of all organizations up to a position are done or postponed."""
        ...

    async def waiting(self, organization_id: uuid.UUID) -> tuple[int, float]:
        """How many entries of an organization wait, and for how many seconds the oldest does."""
        ...

    async def waiting_items(
        self, organization_id: uuid.UUID, kind: MemoryKind, item_ids: Collection[uuid.UUID]
    ) -> set[uuid.UUID]:
        """Of the items named, those that wait."""
        ...

    async def item_ids(
        self, organization_id: uuid.UUID, kind: MemoryKind, after: uuid.UUID | None, size: int
    ) -> Sequence[uuid.UUID]:
        """A page of the ids of all items that belong into the index, in order (the transaction must be set to the organization)."""
        ...

    async def count_items(self, organization_id: uuid.UUID) -> int:
        """How many items belong into the index and do not wait (the transaction must be set to the organization)."""
        ...

    async def is_filled(self, collection: str) -> bool:
        """Whether an index collection was filled completely and is the one in use."""
        ...

    async def set_filled(self, collection: str, filled: bool) -> None:
        """Remembers it. One that is filled is the one in use: all others fall behind from then on and are not filled any more."""
        ...
