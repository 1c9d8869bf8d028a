"""Takes memory out with its history and puts it back."""

import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from chassis import ids
from chassis.errors import FailedPrecondition
from memory_svc.domain.blocks import check_limit
from memory_svc.domain.passages import PassageDraft, check_draft
from memory_svc.domain.transfer import (
    BlockRecord,
    MemoryRecord,
    PassageRecord,
    check_history,
    check_newest,
    kept_id,
)
from memory_svc.interfaces.indexing import IndexProgress
from memory_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from memory_svc.managers.passage_room import PassageRoom

_PAGE = 100


@dataclass(frozen=True, slots=True)
class Home:
    """Where records are imported: an organization, and one agent for all of them or the agents that they name."""

    organization_id: uuid.UUID
    agent_id: uuid.UUID | None


class TransferManager:
    """Exports page by page, imports batch by batch; each batch is one transaction."""

    def __init__(self, work: UnitOfWork, progress: IndexProgress, room: PassageRoom) -> None:
        self._work = work
        self._room = room
        self._progress = progress

    async def export(
        self, organization_id: uuid.UUID, agent_id: uuid.UUID | None
    ) -> AsyncIterator[Sequence[MemoryRecord]]:
        """Blocks, then passages, by id; what is written meanwhile may or may not be among them."""
        after: uuid.UUID | None = None
        while True:
            async with self._work.begin(organization_id) as transaction:
                blocks = await transaction.blocks.records(agent_id, after, _PAGE)
            if not blocks:
                break
            yield blocks
            after = blocks[-1].block.id
        after = None
        while True:
            async with self._work.begin(organization_id) as transaction:
                passages = await transaction.passages.records(agent_id, after, _PAGE)
            if not passages:
                break
            yield passages
            after = passages[-1].passage.id

    async def store(self, home: Home, records: Sequence[MemoryRecord]) -> int:
        """Stores what is not there yet, all or none; returns how many that were.

        Raises InvalidArgument for what is no record, FailedPrecondition BLOCK_LABEL_ATTACHED or BLOCK_LIMIT_EXCEEDED, NotFound
        where an agent was deleted, ResourceExhausted QUOTA_EXCEEDED.
        """
        stored = passages = 0
        async with self._work.begin(home.organization_id) as transaction:
            for place, record in enumerate(records):
                if isinstance(record, BlockRecord):
                    stored += await _store_block(transaction, home, record, f"records[{place}].block")
                else:
                    passages += await _store_passage(transaction, home, record, f"records[{place}].passage")
            await self._room.require(transaction, home.organization_id, passages)
        self._progress.poke()
        return stored + passages


async def _store_block(transaction: Transaction, home: Home, record: BlockRecord, path: str) -> bool:
    given = record.block
    check_history(record.versions, given.version, path)
    check_newest(record.versions[-1].value == given.value, path)
    check_limit(given.value, given.limit)
    agents = given.agent_ids if home.agent_id is None else (home.agent_id,)
    at_home = given.organization_id == home.organization_id and set(agents) <= set(given.agent_ids)
    block = replace(
        given,
        id=kept_id(home.organization_id, home.agent_id, given.id, at_home=at_home),
        organization_id=home.organization_id,
        agent_ids=tuple(sorted(agents)),
    )
    for agent_id in agents:
        await _check_agent(transaction, agent_id)
    if not await transaction.blocks.restore(block):
        return False
    for agent_id in agents:
        await _make_room(transaction, agent_id, block.label)
    for version in record.versions:
        await transaction.blocks.add_version(replace(version, block_id=block.id))
    for agent_id in agents:
        if not await transaction.blocks.attach(block, agent_id):
            raise FailedPrecondition(
                f"the agent already has a block with the label {block.label}: delete or detach it first",
                reason="BLOCK_LABEL_ATTACHED",
                metadata={"label": block.label},
            )
    return True


async def _make_room(transaction: Transaction, agent_id: uuid.UUID, label: str) -> None:
    """A block that every new agent gets, and that nobody has written into, gives way to the one that is imported."""
    block_id = await transaction.blocks.find_attached(agent_id, label)
    present = await transaction.blocks.get(block_id, lock=True) if block_id else None
    if present is not None and not present.value and present.version == 1 and present.agent_ids == (agent_id,):
        await transaction.blocks.delete(present.id)


async def _store_passage(transaction: Transaction, home: Home, record: PassageRecord, path: str) -> bool:
    given = record.passage
    now = datetime.now(UTC)
    check_history(record.versions, given.version, path)
    check_newest(record.versions[-1].text == given.text, path)
    draft = PassageDraft(given.text, given.tags, given.metadata, given.valid_from, given.valid_to)
    check_draft(draft, path, now)
    for version in record.versions:
        check_draft(PassageDraft(version.text, version.tags, version.metadata), f"{path}.versions", now)
    if given.expire_time is not None and given.expire_time <= now:
        # It was forgotten on the way.
        return False
    agent_id = home.agent_id or given.agent_id
    at_home = given.organization_id == home.organization_id and agent_id == given.agent_id
    twin = given.near_duplicate_of
    passage = replace(
        given,
        id=kept_id(home.organization_id, agent_id, given.id, at_home=at_home),
        organization_id=home.organization_id,
        agent_id=agent_id,
        near_duplicate_of=twin and kept_id(home.organization_id, agent_id, twin, at_home=at_home),
    )
    await _check_agent(transaction, agent_id)
    return await transaction.passages.restore(PassageRecord(passage, record.versions))


async def _check_agent(transaction: Transaction, agent_id: uuid.UUID) -> None:
    if await transaction.agents.is_forgotten(agent_id):
        raise ids.absent("agent", agent_id)
