"""BlockService on the wire."""

import uuid
from typing import Any

from chassis import ids
from chassis.idempotency import Once, request_key
from chassis.identity import current
from chassis.pagination import PageTokens, fingerprint, page_size
from hearth.memory.v1 import block_service_pb2 as pb
from hearth.memory.v1.block_service_pb2_grpc import BlockServiceServicer
from memory_svc.domain.blocks import Append, Block, Edit, Insert, Replace, Rethink
from memory_svc.managers.block_manager import AgentLabel, BlockChange, BlockDraft, BlockManager, Editor
from memory_svc.servicers.callers import author, optional_id
from memory_svc.servicers.mapping import block_to_proto, version_to_proto


class BlockServicer(BlockServiceServicer):
    """Messages in, messages out."""

    def __init__(self, blocks: BlockManager, pages: PageTokens) -> None:
        self._blocks = blocks
        self._pages = pages

    async def CreateBlock(self, request: pb.CreateBlockRequest, context: Any) -> pb.CreateBlockResponse:
        draft = BlockDraft(
            label=request.label,
            value=request.value,
            description=request.description,
            limit=request.limit,
            read_only=request.read_only,
            agent_ids=tuple({ids.decode("agent", text) for text in request.agent_ids}),
        )
        once: Once[Block] = Once(request_key(request), lambda made: _created(made).SerializeToString())
        return _created(await self._blocks.create(current().organization_id, draft, Editor(author()), once))

    async def GetBlock(self, request: pb.GetBlockRequest, context: Any) -> pb.GetBlockResponse:
        block = await self._blocks.get(current().organization_id, ids.decode("block", request.block_id))
        return pb.GetBlockResponse(block=block_to_proto(block))

    async def ListBlocks(self, request: pb.ListBlocksRequest, context: Any) -> pb.ListBlocksResponse:
        organization_id = current().organization_id
        query = fingerprint(request, organization_id)
        position = self._pages.verify(request.page_token, query)
        after = None if position is None else (str(position[0]), uuid.UUID(str(position[1])))
        agent_id = optional_id("agent", request.agent_id)
        size = page_size(request.page_size)
        found, last = await self._blocks.page(organization_id, agent_id, request.label, after, size)
        return pb.ListBlocksResponse(
            blocks=map(block_to_proto, found),
            next_page_token=self._pages.sign(query, [last[0], str(last[1])]) if last else "",
        )

    async def UpdateBlock(self, request: pb.UpdateBlockRequest, context: Any) -> pb.UpdateBlockResponse:
        given = request.block
        change = BlockChange(**{path: getattr(given, path) for path in request.update_mask.paths})
        editor = Editor(author(), request.reason)
        block_id = ids.decode("block", given.id)
        block = await self._blocks.update(current().organization_id, block_id, given.etag, change, editor)
        return pb.UpdateBlockResponse(block=block_to_proto(block))

    async def DeleteBlock(self, request: pb.DeleteBlockRequest, context: Any) -> pb.DeleteBlockResponse:
        await self._blocks.delete(current().organization_id, ids.decode("block", request.block_id))
        return pb.DeleteBlockResponse()

    async def EditBlock(self, request: pb.EditBlockRequest, context: Any) -> pb.EditBlockResponse:
        agent_id = optional_id("agent", request.editor_agent_id)
        editor = Editor(author(agent_id), request.reason, agent_id)
        once: Once[Block] = Once(request_key(request), lambda block: _edited(block).SerializeToString())
        block = await self._blocks.edit(
            current().organization_id, _which(request), _operation(request), request.etag, editor, once
        )
        return _edited(block)

    async def AttachBlock(self, request: pb.AttachBlockRequest, context: Any) -> pb.AttachBlockResponse:
        block_id, agent_id = ids.decode("block", request.block_id), ids.decode("agent", request.agent_id)
        block = await self._blocks.attach(current().organization_id, block_id, agent_id)
        return pb.AttachBlockResponse(block=block_to_proto(block))

    async def DetachBlock(self, request: pb.DetachBlockRequest, context: Any) -> pb.DetachBlockResponse:
        block_id, agent_id = ids.decode("block", request.block_id), ids.decode("agent", request.agent_id)
        block = await self._blocks.detach(current().organization_id, block_id, agent_id)
        return pb.DetachBlockResponse(block=block_to_proto(block))

    async def ListBlockVersions(
        self, request: pb.ListBlockVersionsRequest, context: Any
    ) -> pb.ListBlockVersionsResponse:
        organization_id = current().organization_id
        query = fingerprint(request, organization_id)
        position = self._pages.verify(request.page_token, query)
        before = None if position is None else int(position[0])
        block_id = ids.decode("block", request.block_id)
        found, last = await self._blocks.versions(organization_id, block_id, before, page_size(request.page_size))
        return pb.ListBlockVersionsResponse(
            block_versions=map(version_to_proto, found),
            next_page_token=self._pages.sign(query, [last]) if last is not None else "",
        )

    async def RestoreBlock(self, request: pb.RestoreBlockRequest, context: Any) -> pb.RestoreBlockResponse:
        editor = Editor(author(), request.reason)
        block_id = ids.decode("block", request.block_id)
        block = await self._blocks.restore(current().organization_id, block_id, request.version, request.etag, editor)
        return pb.RestoreBlockResponse(block=block_to_proto(block))


def _created(block: Block) -> pb.CreateBlockResponse:
    return pb.CreateBlockResponse(block=block_to_proto(block))


def _edited(block: Block) -> pb.EditBlockResponse:
    return pb.EditBlockResponse(block=block_to_proto(block))


def _which(request: pb.EditBlockRequest) -> uuid.UUID | AgentLabel:
    if request.WhichOneof("by") == "agent_block":
        return AgentLabel(ids.decode("agent", request.agent_block.agent_id), request.agent_block.label)
    return ids.decode("block", request.block_id)


def _operation(request: pb.EditBlockRequest) -> Edit:
    match request.WhichOneof("operation"):
        case "append":
            return Append(request.append.text)
        case "replace":
            return Replace(request.replace.old_text, request.replace.new_text)
        case "insert":
            return Insert(request.insert.text, request.insert.line)
        case _:
            return Rethink(request.rethink.text)
