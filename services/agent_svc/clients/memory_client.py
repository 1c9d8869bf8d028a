"""memory_svc as agent_svc sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from agent_svc.clients.calling import answered
from agent_svc.domain.agent import BlockDraft
from agent_svc.domain.conversation import Message, MessageRole
from agent_svc.domain.log import Unindexed
from agent_svc.domain.prompt import CompiledMemory
from agent_svc.interfaces.memory import MemoryChange
from chassis import ids
from hearth.memory.internal.v1 import context_service_pb2 as context_pb
from hearth.memory.internal.v1 import recall_index_service_pb2 as index_pb
from hearth.memory.internal.v1.context_service_pb2_grpc import ContextServiceStub
from hearth.memory.internal.v1.recall_index_service_pb2_grpc import RecallIndexServiceStub
from hearth.memory.v1 import archival_memory_service_pb2 as archival_pb
from hearth.memory.v1 import block_service_pb2 as block_pb
from hearth.memory.v1 import recall_memory_service_pb2 as recall_pb
from hearth.memory.v1.archival_memory_service_pb2_grpc import ArchivalMemoryServiceStub
from hearth.memory.v1.block_service_pb2_grpc import BlockServiceStub
from hearth.memory.v1.recall_memory_service_pb2_grpc import RecallMemoryServiceStub

_INDEX_BATCH = 200
_INDEX_TIMEOUT_S = 60.0
_ROLES = {
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.SUMMARY: "summary",
}


class MemoryClient:
    """Implements all Protocols of interfaces.memory over one channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._context = ContextServiceStub(channel)
        self._index = RecallIndexServiceStub(channel)
        self._blocks = BlockServiceStub(channel)
        self._archival = ArchivalMemoryServiceStub(channel)
        self._recall = RecallMemoryServiceStub(channel)

    async def compile(
        self, agent_id: UUID, conversation_id: UUID, text: str, *, recall_tokens: int, exclude_from_seq: int
    ) -> CompiledMemory:
        request = context_pb.CompileContextRequest(
            agent_id=ids.encode("agent", agent_id),
            input=text,
            recall_budget_tokens=max(0, recall_tokens),
            conversation_id=ids.encode("conv", conversation_id),
            exclude_from_seq=exclude_from_seq,
        )
        answer = await answered(self._context.CompileContext(request))
        return CompiledMemory(answer.blocks_text, answer.recalled_text)

    async def append(self, agent_id: UUID, label: str, text: str, request_id: UUID) -> MemoryChange:
        request = _edit(agent_id, label, request_id)
        request.append.text = text
        return await self._edit(request)

    async def replace(self, agent_id: UUID, label: str, old: str, new: str, request_id: UUID) -> MemoryChange:
        request = _edit(agent_id, label, request_id)
        request.replace.old_text = old
        request.replace.new_text = new
        return await self._edit(request)

    async def _edit(self, request: block_pb.EditBlockRequest) -> MemoryChange:
        answer = await answered(self._blocks.EditBlock(request))
        return MemoryChange(answer.block.id, answer.block.label)

    async def insert(self, agent_id: UUID, text: str, tags: Sequence[str], request_id: UUID) -> MemoryChange:
        request = archival_pb.InsertPassagesRequest(
            request_id=str(request_id),
            agent_id=ids.encode("agent", agent_id),
            passages=[archival_pb.PassageSpec(text=text, tags=tags)],
        )
        answer = await answered(self._archival.InsertPassages(request))
        return MemoryChange(answer.passages[0].id)

    async def search_passages(self, agent_id: UUID, query: str, top_k: int) -> Sequence[str]:
        request = archival_pb.SearchPassagesRequest(query=query, agent_id=ids.encode("agent", agent_id), top_k=top_k)
        answer = await answered(self._archival.SearchPassages(request))
        return [f"- [{_day(hit.passage.create_time)}] {hit.passage.text}" for hit in answer.hits]

    async def search_messages(self, agent_id: UUID, query: str, top_k: int) -> Sequence[str]:
        request = recall_pb.SearchMessagesRequest(query=query, agent_id=ids.encode("agent", agent_id), top_k=top_k)
        answer = await answered(self._recall.SearchMessages(request))
        return [
            f"- [{_day(hit.message.create_time)}] {hit.message.speaker or hit.message.role}: {hit.message.text}"
            for hit in answer.hits
        ]

    async def create_block(self, agent_id: UUID, block: BlockDraft, request_id: UUID) -> None:
        request = block_pb.CreateBlockRequest(
            request_id=str(request_id),
            label=block.label,
            value=block.value,
            description=block.description,
            limit=block.limit,
            read_only=block.read_only,
            agent_ids=[ids.encode("agent", agent_id)],
        )
        await answered(self._blocks.CreateBlock(request))

    async def attach_block(self, agent_id: UUID, block_id: str) -> None:
        request = block_pb.AttachBlockRequest(block_id=block_id, agent_id=ids.encode("agent", agent_id))
        await answered(self._blocks.AttachBlock(request))

    async def blocks_of(self, agent_id: UUID) -> Sequence[BlockDraft]:
        request = block_pb.ListBlocksRequest(agent_id=ids.encode("agent", agent_id), page_size=200)
        found: list[BlockDraft] = []
        while True:
            answer = await answered(self._blocks.ListBlocks(request))
            found += [BlockDraft(b.label, b.value, b.description, b.limit, b.read_only) for b in answer.blocks]
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found

    async def forget_agent(self, agent_id: UUID) -> None:
        await answered(self._index.ForgetAgent(index_pb.ForgetAgentRequest(agent_id=ids.encode("agent", agent_id))))

    async def forget_conversation(self, conversation_id: UUID) -> None:
        request = index_pb.ForgetConversationRequest(conversation_id=ids.encode("conv", conversation_id))
        await answered(self._index.ForgetConversation(request))

    async def index(self, conversations: Sequence[Unindexed]) -> None:
        batch: list[recall_pb.RecallMessage] = []
        for message in _recall_messages(conversations):
            batch.append(message)
            if len(batch) == _INDEX_BATCH:
                await self._send(batch)
                batch = []
        if batch:
            await self._send(batch)

    async def _send(self, batch: list[recall_pb.RecallMessage]) -> None:
        await answered(
            self._index.IndexMessages(index_pb.IndexMessagesRequest(messages=batch), timeout=_INDEX_TIMEOUT_S)
        )


def _edit(agent_id: UUID, label: str, request_id: UUID) -> block_pb.EditBlockRequest:
    agent = ids.encode("agent", agent_id)
    return block_pb.EditBlockRequest(
        request_id=str(request_id),
        agent_block=block_pb.AgentBlock(agent_id=agent, label=label),
        editor_agent_id=agent,
    )


def _recall_messages(conversations: Sequence[Unindexed]) -> Iterator[recall_pb.RecallMessage]:
    """Messages with something to find in them; what only calls tools has no text."""
    for one in conversations:
        agent_id = ids.encode("agent", one.agent_id)
        conversation_id = ids.encode("conv", one.conversation_id)
        for message in one.messages:
            if message.text.strip() and message.role is not MessageRole.TOOL:
                yield _recall_message(message, agent_id, conversation_id)


def _recall_message(message: Message, agent_id: str, conversation_id: str) -> recall_pb.RecallMessage:
    created = Timestamp()
    created.FromDatetime(message.create_time.astimezone(UTC))
    return recall_pb.RecallMessage(
        message_id=ids.encode("msg", message.id),
        agent_id=agent_id,
        conversation_id=conversation_id,
        seq=message.seq,
        role=_ROLES[message.role],
        text=message.text,
        create_time=created,
    )


def _day(time: Timestamp) -> str:
    return time.ToDatetime(UTC).strftime("%Y-%m-%d")
