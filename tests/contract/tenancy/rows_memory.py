"""The rows of memory_svc."""

from collections.abc import Mapping

from google.protobuf.message import Message

from hearth.memory.internal.v1 import context_service_pb2 as context
from hearth.memory.internal.v1 import recall_index_service_pb2 as recall_index
from hearth.memory.internal.v1 import usage_service_pb2 as usage
from hearth.memory.v1 import archival_memory_service_pb2 as archival
from hearth.memory.v1 import block_service_pb2 as block
from hearth.memory.v1 import index_service_pb2 as index
from hearth.memory.v1 import recall_memory_service_pb2 as recall
from hearth.memory.v1 import search_pb2
from hearth.memory.v1 import transfer_service_pb2 as transfer
from tests.contract.tenancy.cases import Case, hidden, own, same
from tests.contract.tenancy.tenants import Names


def _passage(their: Names, own: Names) -> Message:
    request = archival.UpdatePassageRequest()
    request.passage.id, request.passage.text = their.passage, "changed"
    request.update_mask.paths.append("text")
    return request


def _passages(their: Names, own: Names) -> Message:
    request = archival.InsertPassagesRequest(request_id=their.request_id, agent_id=their.agent)
    request.passages.add(text="A fact of nobody's.", source_message_ids=[their.message])
    return request


def _block(their: Names, own: Names) -> Message:
    request = block.UpdateBlockRequest()
    request.block.id, request.block.etag, request.block.value = their.block, their.block_etag, "changed"
    request.update_mask.paths.append("value")
    return request


def _remembered(their: Names, own: Names) -> Message:
    request = recall_index.IndexMessagesRequest()
    request.messages.add(
        message_id=their.message,
        agent_id=their.agent,
        conversation_id=their.conversation,
        seq=1,
        role="user",
        text="Hm.",
    )
    return request


def _record(their: Names, own: Names) -> Message:
    """Somebody else's passage and block, said to be of their organization, for their agent."""
    request = transfer.ImportMemoryRequest(agent_id=their.agent)
    passage = request.records.add().passage
    passage.passage.id, passage.passage.organization_id = their.passage, their.organization
    passage.passage.agent_id, passage.passage.text, passage.passage.version = their.agent, "Put back.", 1
    passage.versions.add(version=1, text="Put back.")
    block_record = request.records.add().block
    block_record.block.id, block_record.block.organization_id = their.block, their.organization
    block_record.block.label, block_record.block.value, block_record.block.version = "put-back", "Put back.", 1
    block_record.block.agent_ids.append(their.agent)
    block_record.versions.add(block_id=their.block, version=1, value="Put back.")
    return request


def _search(mode: search_pb2.SearchMode.ValueType, agent_id: str = "") -> Message:
    return archival.SearchPassagesRequest(query="treasure", mode=mode, agent_id=agent_id)


def _recall(mode: search_pb2.SearchMode.ValueType, agent_id: str = "", conversation_id: str = "") -> Message:
    return recall.SearchMessagesRequest(query="treasure", mode=mode, agent_id=agent_id, conversation_id=conversation_id)


_MODES = (search_pb2.SEARCH_MODE_HYBRID, search_pb2.SEARCH_MODE_DENSE, search_pb2.SEARCH_MODE_LEXICAL)


# memory_svc does not know which agents exist: memory of an agent that the caller's organization does not have is memory
# of the caller's that nobody reads.
MEMORY: Mapping[str, tuple[Case, ...]] = {
    "ArchivalMemoryService/InsertPassages": (own(_passages),),
    "ArchivalMemoryService/ImportPassages": (
        own(
            lambda their, own: archival.ImportPassagesRequest(
                agent_id=their.agent,
                passages=[archival.PassageSpec(text="A fact.", source_message_ids=[their.message])],
            )
        ),
    ),
    "ArchivalMemoryService/GetPassage": (
        hidden(lambda their, own: archival.GetPassageRequest(passage_id=their.passage)),
    ),
    "ArchivalMemoryService/ListPassages": (
        same(lambda their, own: archival.ListPassagesRequest(tags=search_pb2.TagFilter(any=[their.word]))),
        own(lambda their, own: archival.ListPassagesRequest(agent_id=their.agent)),
        own(lambda their, own: archival.ListPassagesRequest()),
    ),
    "ArchivalMemoryService/UpdatePassage": (hidden(_passage),),
    "ArchivalMemoryService/DeletePassage": (
        same(lambda their, own: archival.DeletePassageRequest(passage_id=their.passage)),
    ),
    "ArchivalMemoryService/SearchPassages": (
        *(own(lambda their, own, mode=mode: _search(mode)) for mode in _MODES),
        *(own(lambda their, own, mode=mode: _search(mode, agent_id=their.agent)) for mode in _MODES),
    ),
    "BlockService/CreateBlock": (
        own(
            lambda their, own: block.CreateBlockRequest(
                request_id=their.request_id, label="twin", agent_ids=[their.agent]
            )
        ),
    ),
    "BlockService/GetBlock": (hidden(lambda their, own: block.GetBlockRequest(block_id=their.block)),),
    "BlockService/ListBlocks": (
        own(lambda their, own: block.ListBlocksRequest(agent_id=their.agent)),
        own(lambda their, own: block.ListBlocksRequest()),
    ),
    "BlockService/UpdateBlock": (hidden(_block, "ABORTED"),),
    "BlockService/DeleteBlock": (same(lambda their, own: block.DeleteBlockRequest(block_id=their.block)),),
    "BlockService/EditBlock": (
        hidden(lambda their, own: block.EditBlockRequest(block_id=their.block, append=block.AppendText(text="!"))),
        hidden(
            lambda their, own: block.EditBlockRequest(
                agent_block=block.AgentBlock(agent_id=their.agent, label=f"first-{their.word}"),
                append=block.AppendText(text="!"),
            )
        ),
        hidden(
            lambda their, own: block.EditBlockRequest(
                block_id=own.block, editor_agent_id=their.agent, append=block.AppendText(text="!")
            )
        ),
    ),
    "BlockService/AttachBlock": (
        hidden(lambda their, own: block.AttachBlockRequest(block_id=their.block, agent_id=own.agent)),
        own(lambda their, own: block.AttachBlockRequest(block_id=own.block, agent_id=their.agent)),
    ),
    "BlockService/DetachBlock": (
        hidden(lambda their, own: block.DetachBlockRequest(block_id=their.block, agent_id=own.agent)),
        own(lambda their, own: block.DetachBlockRequest(block_id=own.block, agent_id=their.agent)),
    ),
    "BlockService/ListBlockVersions": (
        hidden(lambda their, own: block.ListBlockVersionsRequest(block_id=their.block)),
    ),
    "BlockService/RestoreBlock": (
        hidden(
            lambda their, own: block.RestoreBlockRequest(block_id=their.block, version=1, etag=their.block_etag),
            "ABORTED",
        ),
    ),
    "IndexService/GetIndexStatus": (own(lambda their, own: index.GetIndexStatusRequest()),),
    "IndexService/ReconcileIndex": (own(lambda their, own: index.ReconcileIndexRequest()),),
    "IndexService/ReindexMemory": (own(lambda their, own: index.ReindexMemoryRequest()),),
    "TransferService/ExportMemory": (
        own(lambda their, own: transfer.ExportMemoryRequest()),
        own(lambda their, own: transfer.ExportMemoryRequest(agent_id=their.agent)),
    ),
    "TransferService/ImportMemory": (own(_record),),
    "RecallMemoryService/SearchMessages": (
        *(own(lambda their, own, mode=mode: _recall(mode)) for mode in _MODES),
        *(same(lambda their, own, mode=mode: _recall(mode, agent_id=their.agent)) for mode in _MODES),
        *(same(lambda their, own, mode=mode: _recall(mode, conversation_id=their.conversation)) for mode in _MODES),
    ),
}

MEMORY_INTERNAL: Mapping[str, tuple[Case, ...]] = {
    "ContextService/CompileContext": (
        own(
            lambda their, own: context.CompileContextRequest(
                agent_id=their.agent, conversation_id=their.conversation, input="treasure", recall_budget_tokens=1000
            )
        ),
    ),
    "UsageService/GetUsage": (own(lambda their, own: usage.GetUsageRequest()),),
    "RecallIndexService/IndexMessages": (own(_remembered),),
    "RecallIndexService/ForgetConversation": (
        same(lambda their, own: recall_index.ForgetConversationRequest(conversation_id=their.conversation)),
    ),
    "RecallIndexService/ForgetAgent": (same(lambda their, own: recall_index.ForgetAgentRequest(agent_id=their.agent)),),
}
