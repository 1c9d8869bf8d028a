"""Core memory blocks: what is always in an agent's context."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from hearth.memory.v1.block_pb2 import Block, BlockVersion
from hearth.memory.v1.block_service_pb2 import (
    AgentBlock,
    AppendText,
    AttachBlockRequest,
    CreateBlockRequest,
    DeleteBlockRequest,
    DetachBlockRequest,
    EditBlockRequest,
    GetBlockRequest,
    InsertText,
    ListBlocksRequest,
    ListBlockVersionsRequest,
    ReplaceText,
    RestoreBlockRequest,
    RethinkText,
    UpdateBlockRequest,
)
from hearth.memory.v1.block_service_pb2_grpc import BlockServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.memory.v1.block_service_pb2_grpc import BlockServiceAsyncStub


class Blocks:
    """`client.blocks`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> BlockServiceAsyncStub:
        return BlockServiceStub(self._connection.channel)

    async def create(
        self,
        label: str,
        value: str = "",
        *,
        description: str = "",
        limit: int = 0,
        read_only: bool = False,
        agent_ids: Iterable[str] = (),
        request_id: str = "",
    ) -> Block:
        """A new block, attached to `agent_ids`. `limit` in characters; 0 means the server's default."""
        request = CreateBlockRequest(
            request_id=request_id or new_request_id(),
            label=label,
            value=value,
            description=description,
            limit=limit,
            read_only=read_only,
            agent_ids=agent_ids,
        )
        return (await self._connection.call(self._stub.CreateBlock, request)).block

    async def get(self, block_id: str) -> Block:
        """By id. Raises NotFoundError."""
        return (await self._connection.call(self._stub.GetBlock, GetBlockRequest(block_id=block_id))).block

    def list(self, *, agent_id: str = "", label: str = "", page_size: int = 0) -> AsyncIterator[Block]:
        """By label."""

        async def fetch(token: str) -> tuple[Sequence[Block], str]:
            request = ListBlocksRequest(agent_id=agent_id, label=label, page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListBlocks, request)
            return response.blocks, response.next_page_token

        return pages(fetch)

    async def update(self, block: Block, *paths: str, reason: str = "") -> Block:
        """Changes the fields named by `paths`. The block's etag is required. Raises AbortedError ETAG_MISMATCH."""
        request = UpdateBlockRequest(block=block, update_mask=FieldMask(paths=paths), reason=reason)
        return (await self._connection.call(self._stub.UpdateBlock, request)).block

    async def edit(
        self,
        operation: AppendText | ReplaceText | InsertText | RethinkText,
        *,
        block_id: str = "",
        agent_id: str = "",
        label: str = "",
        etag: str = "",
        reason: str = "",
        request_id: str = "",
    ) -> Block:
        """Changes the value by one operation, atomically. The block is named by id, or by its agent and label."""
        request = EditBlockRequest(request_id=request_id or new_request_id(), etag=etag, reason=reason)
        if block_id:
            request.block_id = block_id
        else:
            request.agent_block.CopyFrom(AgentBlock(agent_id=agent_id, label=label))
        if isinstance(operation, AppendText):
            request.append.CopyFrom(operation)
        elif isinstance(operation, ReplaceText):
            request.replace.CopyFrom(operation)
        elif isinstance(operation, InsertText):
            request.insert.CopyFrom(operation)
        else:
            request.rethink.CopyFrom(operation)
        return (await self._connection.call(self._stub.EditBlock, request)).block

    async def delete(self, block_id: str) -> None:
        """Removes a block with its history. Twice is fine."""
        await self._connection.call(self._stub.DeleteBlock, DeleteBlockRequest(block_id=block_id))

    async def attach(self, block_id: str, agent_id: str) -> Block:
        """Gives a block to an agent. Twice is fine; another block with its label: FailedPreconditionError BLOCK_LABEL_ATTACHED."""
        request = AttachBlockRequest(block_id=block_id, agent_id=agent_id)
        return (await self._connection.call(self._stub.AttachBlock, request)).block

    async def detach(self, block_id: str, agent_id: str) -> Block:
        """Takes a block from an agent. Twice is fine."""
        request = DetachBlockRequest(block_id=block_id, agent_id=agent_id)
        return (await self._connection.call(self._stub.DetachBlock, request)).block

    def versions(self, block_id: str, *, page_size: int = 0) -> AsyncIterator[BlockVersion]:
        """The history of a block, newest first."""

        async def fetch(token: str) -> tuple[Sequence[BlockVersion], str]:
            request = ListBlockVersionsRequest(block_id=block_id, page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListBlockVersions, request)
            return response.block_versions, response.next_page_token

        return pages(fetch)

    async def restore(self, block_id: str, version: int, *, etag: str, reason: str = "") -> Block:
        """Makes the value of an older version the newest one."""
        request = RestoreBlockRequest(block_id=block_id, version=version, etag=etag, reason=reason)
        return (await self._connection.call(self._stub.RestoreBlock, request)).block


class BlockingBlocks(BlockingFace[Blocks]):
    """`client.blocks`, blocking."""

    create = call(Blocks.create)
    get = call(Blocks.get)
    list = iterate(Blocks.list)
    update = call(Blocks.update)
    edit = call(Blocks.edit)
    delete = call(Blocks.delete)
    attach = call(Blocks.attach)
    detach = call(Blocks.detach)
    versions = iterate(Blocks.versions)
    restore = call(Blocks.restore)
