"""Core memory: blocks, their edits and their history."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from chassis import ids
from chassis.errors import FailedPrecondition, etag_mismatch, not_found
from chassis.once import Once
from memory_svc.domain.blocks import (
    DEFAULT_LIMIT,
    Block,
    BlockVersion,
    Edit,
    check_limit,
    difference,
    edited,
)
from memory_svc.interfaces.repositories import BlockRepository
from memory_svc.interfaces.unit_of_work import Transaction, UnitOfWork


@dataclass(frozen=True, slots=True)
class BlockDraft:
    """A block to be made; `limit` 0 means the default."""

    label: str
    value: str
    description: str = ""
    limit: int = 0
    read_only: bool = False
    agent_ids: tuple[uuid.UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockChange:
    """New values of a block; None leaves one as it is."""

    value: str | None = None
    description: str | None = None
    limit: int | None = None
    read_only: bool | None = None


@dataclass(frozen=True, slots=True)
class Editor:
    """Who changes a block and why. An agent is bound by read_only and reaches only its own blocks."""

    author: str
    reason: str = ""
    agent_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class AgentLabel:
    """A block named by the agent that has it and its label."""

    agent_id: uuid.UUID
    label: str


class BlockManager:
    """All that happens to blocks. Changes lock the row, so of two at once the second sees the first."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    async def create(self, organization_id: uuid.UUID, draft: BlockDraft, editor: Editor, once: Once[Block]) -> Block:
        """Makes a block and attaches it.

        Raises FailedPrecondition BLOCK_LIMIT_EXCEEDED or BLOCK_LABEL_ATTACHED.
        """
        now = datetime.now(UTC)
        block = Block(
            id=ids.new(),
            organization_id=organization_id,
            label=draft.label,
            value=draft.value,
            description=draft.description,
            limit=draft.limit or DEFAULT_LIMIT,
            read_only=draft.read_only,
            version=1,
            revision=1,
            create_time=now,
            update_time=now,
            agent_ids=tuple(sorted(draft.agent_ids)),
        )
        check_limit(block.value, block.limit)
        async with self._work.begin(organization_id) as transaction, transaction.once(once) as answer:
            await transaction.blocks.add(block)
            await transaction.blocks.add_version(_version(block, "", editor))
            for agent_id in sorted(draft.agent_ids):
                await _attach(transaction.blocks, block, agent_id)
            answer(block)
        return block

    async def get(self, organization_id: uuid.UUID, block_id: uuid.UUID) -> Block:
        """Raises NotFound."""
        async with self._work.begin(organization_id) as transaction:
            return await _existing(transaction, block_id)

    async def page(
        self,
        organization_id: uuid.UUID,
        agent_id: uuid.UUID | None,
        label: str,
        after: tuple[str, uuid.UUID] | None,
        size: int,
    ) -> tuple[list[Block], tuple[str, uuid.UUID] | None]:
        """One page by label, then id, and the position after which the next begins, None at the end."""
        async with self._work.begin(organization_id) as transaction:
            found = await transaction.blocks.page(agent_id, label, after, size + 1)
        page = found[:size]
        return page, (page[-1].label, page[-1].id) if len(found) > size else None

    async def update(
        self, organization_id: uuid.UUID, block_id: uuid.UUID, etag: str, change: BlockChange, editor: Editor
    ) -> Block:
        """Raises NotFound, Aborted ETAG_MISMATCH, FailedPrecondition BLOCK_LIMIT_EXCEEDED."""

        def changed(block: Block) -> Block:
            return replace(
                block,
                value=block.value if change.value is None else change.value,
                description=block.description if change.description is None else change.description,
                limit=block.limit if change.limit is None else change.limit or DEFAULT_LIMIT,
                read_only=block.read_only if change.read_only is None else change.read_only,
            )

        async with self._work.begin(organization_id) as transaction:
            return await _change(transaction, block_id, etag, editor, changed)

    async def edit(
        self,
        organization_id: uuid.UUID,
        which: uuid.UUID | AgentLabel,
        operation: Edit,
        etag: str,
        editor: Editor,
        once: Once[Block],
    ) -> Block:
        """Changes the value by one operation, in one transaction.

        Raises NotFound; Aborted ETAG_MISMATCH; FailedPrecondition BLOCK_READ_ONLY (agents only), BLOCK_LIMIT_EXCEEDED,
        EDIT_MATCH_COUNT; OutOfRange.
        """
        async with self._work.begin(organization_id) as transaction, transaction.once(once) as answer:
            block_id = await _named(transaction, which)
            block = await _change(
                transaction,
                block_id,
                etag,
                editor,
                lambda block: replace(block, value=edited(block.value, operation)),
            )
            answer(block)
        return block

    async def delete(self, organization_id: uuid.UUID, block_id: uuid.UUID) -> None:
        """Removes a block with its history. What is not there is gone already."""
        async with self._work.begin(organization_id) as transaction:
            await transaction.blocks.delete(block_id)

    async def attach(self, organization_id: uuid.UUID, block_id: uuid.UUID, agent_id: uuid.UUID) -> Block:
        """Raises NotFound, FailedPrecondition BLOCK_LABEL_ATTACHED."""
        async with self._work.begin(organization_id) as transaction:
            block = await _existing(transaction, block_id, lock=True)
            await _attach(transaction.blocks, block, agent_id)
            return await _existing(transaction, block_id)

    async def detach(self, organization_id: uuid.UUID, block_id: uuid.UUID, agent_id: uuid.UUID) -> Block:
        """Raises NotFound."""
        async with self._work.begin(organization_id) as transaction:
            await transaction.blocks.detach(block_id, agent_id)
            return await _existing(transaction, block_id)

    async def versions(
        self, organization_id: uuid.UUID, block_id: uuid.UUID, before: int | None, size: int
    ) -> tuple[Sequence[BlockVersion], int | None]:
        """One page of history, newest first, and the version before which the next begins. Raises NotFound."""
        async with self._work.begin(organization_id) as transaction:
            await _existing(transaction, block_id)
            found = await transaction.blocks.versions(block_id, before, size + 1)
        page = found[:size]
        return page, page[-1].version if len(found) > size else None

    async def restore(
        self, organization_id: uuid.UUID, block_id: uuid.UUID, version: int, etag: str, editor: Editor
    ) -> Block:
        """Makes an old value the newest version. Raises NotFound (block or version), Aborted, FailedPrecondition."""
        async with self._work.begin(organization_id) as transaction:
            await _existing(transaction, block_id, lock=True)
            old = await transaction.blocks.version(block_id, version)
            if old is None:
                raise not_found("block version", f"{ids.encode('block', block_id)}/{version}")
            why = replace(editor, reason=editor.reason or f"restored version {version}")
            return await _change(transaction, block_id, etag, why, lambda block: replace(block, value=old.value))


async def _existing(transaction: Transaction, block_id: uuid.UUID, *, lock: bool = False) -> Block:
    block = await transaction.blocks.get(block_id, lock=lock)
    if block is None:
        raise ids.absent("block", block_id)
    return block


async def _named(transaction: Transaction, which: uuid.UUID | AgentLabel) -> uuid.UUID:
    if isinstance(which, uuid.UUID):
        return which
    block_id = await transaction.blocks.find_attached(which.agent_id, which.label)
    if block_id is None:
        raise not_found("block", which.label)
    return block_id


async def _attach(blocks: BlockRepository, block: Block, agent_id: uuid.UUID) -> None:
    if not await blocks.attach(block, agent_id):
        raise FailedPrecondition(
            f"the agent already has a block with the label {block.label}",
            reason="BLOCK_LABEL_ATTACHED",
            metadata={"label": block.label},
        )


async def _change(
    transaction: Transaction, block_id: uuid.UUID, etag: str, editor: Editor, change: Callable[[Block], Block]
) -> Block:
    """Load under lock, decide, save, and keep the version. An unchanged block is left as it is."""
    before = await _existing(transaction, block_id, lock=True)
    _check_editor(before, editor)
    if etag and etag != before.etag:
        raise etag_mismatch()
    after = change(before)
    check_limit(after.value, after.limit)
    if after == before:
        return before
    new_value = after.value != before.value
    after = replace(
        after,
        version=before.version + new_value,
        revision=before.revision + 1,
        update_time=datetime.now(UTC),
    )
    await transaction.blocks.save(after)
    if new_value:
        await transaction.blocks.add_version(_version(after, before.value, editor))
    return after


def _check_editor(block: Block, editor: Editor) -> None:
    if editor.agent_id is None:
        return
    if editor.agent_id not in block.agent_ids:
        raise ids.absent("block", block.id)
    if block.read_only:
        raise FailedPrecondition(
            f"the block {block.label} is read-only: people can change it, agents cannot", reason="BLOCK_READ_ONLY"
        )


def _version(block: Block, before: str, editor: Editor) -> BlockVersion:
    diff = difference(before, block.value)
    return BlockVersion(block.id, block.version, block.value, editor.author, editor.reason, diff, block.update_time)
