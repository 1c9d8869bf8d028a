"""Blocks, their versions and attachments in PostgreSQL."""

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from memory_svc.domain.blocks import Block, BlockVersion
from memory_svc.domain.transfer import BlockRecord
from memory_svc.repositories.tables import agent_blocks, block_versions, blocks

_AGENTS = (
    sa.select(sa.func.array_agg(agent_blocks.c.agent_id))
    .where(agent_blocks.c.block_id == blocks.c.id)
    .scalar_subquery()
    .label("agent_ids")
)


class SqlBlocks:
    """A BlockRepository inside one transaction."""

    def __init__(self, session: AsyncSession, organization_id: uuid.UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def add(self, block: Block) -> None:
        await self._session.execute(blocks.insert().values(**_values(block)))

    async def get(self, block_id: uuid.UUID, *, lock: bool = False) -> Block | None:
        query = sa.select(blocks, _AGENTS).where(*self._is(block_id))
        row = (await self._session.execute(query.with_for_update(of=blocks) if lock else query)).one_or_none()
        return _block(row) if row else None

    async def find_attached(self, agent_id: uuid.UUID, label: str) -> uuid.UUID | None:
        query = sa.select(agent_blocks.c.block_id).where(*self._of_agent(agent_id), agent_blocks.c.label == label)
        return (await self._session.execute(query)).scalar_one_or_none()

    async def page(
        self, agent_id: uuid.UUID | None, label: str, after: tuple[str, uuid.UUID] | None, size: int
    ) -> list[Block]:
        query = sa.select(blocks, _AGENTS).where(blocks.c.organization_id == self._organization_id)
        if agent_id is not None:
            attached = sa.select(agent_blocks.c.block_id).where(*self._of_agent(agent_id))
            query = query.where(blocks.c.id.in_(attached))
        if label:
            query = query.where(blocks.c.label == label)
        if after is not None:
            query = query.where(sa.tuple_(blocks.c.label, blocks.c.id) > sa.tuple_(*map(sa.literal, after)))
        rows = await self._session.execute(query.order_by(blocks.c.label, blocks.c.id).limit(size))
        return [_block(row) for row in rows]

    async def of_agent(self, agent_id: uuid.UUID) -> list[Block]:
        query = (
            sa.select(blocks)
            .join(agent_blocks, agent_blocks.c.block_id == blocks.c.id)
            .where(*self._of_agent(agent_id), blocks.c.organization_id == self._organization_id)
            .order_by(agent_blocks.c.position)
        )
        return [_block(row) for row in await self._session.execute(query)]

    async def save(self, block: Block) -> None:
        await self._session.execute(blocks.update().where(*self._is(block.id)).values(**_values(block)))

    async def delete(self, block_id: uuid.UUID) -> None:
        await self._session.execute(blocks.delete().where(*self._is(block_id)))

    async def attach(self, block: Block, agent_id: uuid.UUID) -> bool:
        values = {
            "organization_id": self._organization_id,
            "agent_id": agent_id,
            "block_id": block.id,
            "label": block.label,
        }
        await self._session.execute(insert(agent_blocks).values(**values).on_conflict_do_nothing())
        return await self.find_attached(agent_id, block.label) == block.id

    async def detach(self, block_id: uuid.UUID, agent_id: uuid.UUID) -> None:
        attachment = agent_blocks.delete().where(*self._of_agent(agent_id), agent_blocks.c.block_id == block_id)
        await self._session.execute(attachment)

    async def detach_all(self, agent_id: uuid.UUID) -> None:
        taken = agent_blocks.delete().where(*self._of_agent(agent_id)).returning(agent_blocks.c.block_id)
        ids = list((await self._session.execute(taken)).scalars())
        shared = sa.select(agent_blocks.c.block_id).where(agent_blocks.c.organization_id == self._organization_id)
        alone = blocks.c.id.in_(ids) & blocks.c.id.not_in(shared)
        await self._session.execute(blocks.delete().where(blocks.c.organization_id == self._organization_id, alone))

    async def restore(self, block: Block) -> bool:
        new = insert(blocks).values(**_values(block)).on_conflict_do_nothing().returning(blocks.c.id)
        return (await self._session.execute(new)).first() is not None

    async def records(self, agent_id: uuid.UUID | None, after: uuid.UUID | None, size: int) -> list[BlockRecord]:
        query = sa.select(blocks, _AGENTS).where(blocks.c.organization_id == self._organization_id)
        if agent_id is not None:
            attached = sa.select(agent_blocks.c.block_id).where(*self._of_agent(agent_id))
            query = query.where(blocks.c.id.in_(attached))
        if after is not None:
            query = query.where(blocks.c.id > after)
        found = [_block(row) for row in await self._session.execute(query.order_by(blocks.c.id).limit(size))]
        history: dict[uuid.UUID, list[BlockVersion]] = {block.id: [] for block in found}
        versions = sa.select(block_versions).where(
            block_versions.c.organization_id == self._organization_id, block_versions.c.block_id.in_(list(history))
        )
        for row in await self._session.execute(versions.order_by(block_versions.c.block_id, block_versions.c.version)):
            history[row.block_id].append(_version(row))
        return [BlockRecord(block, history[block.id]) for block in found]

    async def add_version(self, version: BlockVersion) -> None:
        values = {
            "block_id": version.block_id,
            "version": version.version,
            "organization_id": self._organization_id,
            "value": version.value,
            "author": version.author,
            "reason": version.reason,
            "diff": version.diff,
            "create_time": version.create_time,
        }
        await self._session.execute(block_versions.insert().values(**values))

    async def versions(self, block_id: uuid.UUID, before: int | None, size: int) -> list[BlockVersion]:
        query = sa.select(block_versions).where(*self._history(block_id))
        if before is not None:
            query = query.where(block_versions.c.version < before)
        rows = await self._session.execute(query.order_by(block_versions.c.version.desc()).limit(size))
        return [_version(row) for row in rows]

    async def version(self, block_id: uuid.UUID, version: int) -> BlockVersion | None:
        query = sa.select(block_versions).where(*self._history(block_id), block_versions.c.version == version)
        row = (await self._session.execute(query)).one_or_none()
        return _version(row) if row else None

    def _is(self, block_id: uuid.UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return (blocks.c.organization_id == self._organization_id, blocks.c.id == block_id)

    def _of_agent(self, agent_id: uuid.UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return (agent_blocks.c.organization_id == self._organization_id, agent_blocks.c.agent_id == agent_id)

    def _history(self, block_id: uuid.UUID) -> tuple[sa.ColumnElement[bool], ...]:
        return (block_versions.c.organization_id == self._organization_id, block_versions.c.block_id == block_id)


def _values(block: Block) -> dict[str, Any]:
    return {
        "id": block.id,
        "organization_id": block.organization_id,
        "label": block.label,
        "value": block.value,
        "description": block.description,
        "char_limit": block.limit,
        "read_only": block.read_only,
        "version": block.version,
        "revision": block.revision,
        "create_time": block.create_time,
        "update_time": block.update_time,
    }


def _block(row: Any) -> Block:
    return Block(
        id=row.id,
        organization_id=row.organization_id,
        label=row.label,
        value=row.value,
        description=row.description,
        limit=row.char_limit,
        read_only=row.read_only,
        version=row.version,
        revision=row.revision,
        create_time=row.create_time,
        update_time=row.update_time,
        agent_ids=tuple(sorted(getattr(row, "agent_ids", None) or ())),
    )


def _version(row: Any) -> BlockVersion:
    return BlockVersion(row.block_id, row.version, row.value, row.author, row.reason, row.diff, row.create_time)
