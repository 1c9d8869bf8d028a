"""Archival memory (passages) and recall memory (what was said), both found by searching."""

from __future__ import annotations

import functools
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from hearth.memory.v1.archival_memory_service_pb2 import (
    DeletePassageRequest,
    GetPassageRequest,
    ImportPassagesRequest,
    ImportPassagesResponse,
    InsertPassagesRequest,
    InsertPassagesResponse,
    ListPassagesRequest,
    PassageSpec,
    SearchPassagesRequest,
    SearchPassagesResponse,
    UpdatePassageRequest,
)
from hearth.memory.v1.archival_memory_service_pb2_grpc import ArchivalMemoryServiceStub
from hearth.memory.v1.index_service_pb2 import (
    GetIndexStatusRequest,
    GetIndexStatusResponse,
    ReconcileIndexRequest,
    ReconcileIndexResponse,
    ReindexMemoryRequest,
    ReindexMemoryResponse,
)
from hearth.memory.v1.index_service_pb2_grpc import IndexServiceStub
from hearth.memory.v1.passage_pb2 import Passage
from hearth.memory.v1.recall_memory_service_pb2 import SearchMessagesRequest, SearchMessagesResponse
from hearth.memory.v1.recall_memory_service_pb2_grpc import RecallMemoryServiceStub
from hearth.memory.v1.search_pb2 import MetadataFilter, SearchMode, TagFilter, TimeRange
from hearth.memory.v1.transfer_service_pb2 import (
    ExportMemoryRequest,
    ImportMemoryRequest,
    ImportMemoryResponse,
    MemoryRecord,
)
from hearth.memory.v1.transfer_service_pb2_grpc import TransferServiceStub
from hearth_client._blocking import BlockingFace, call, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages

if TYPE_CHECKING:
    from hearth.memory.v1.archival_memory_service_pb2_grpc import ArchivalMemoryServiceAsyncStub
    from hearth.memory.v1.index_service_pb2_grpc import IndexServiceAsyncStub
    from hearth.memory.v1.recall_memory_service_pb2_grpc import RecallMemoryServiceAsyncStub
    from hearth.memory.v1.transfer_service_pb2_grpc import TransferServiceAsyncStub

# Batches that stay far below what a message may weigh.
_IMPORT_BATCH = 200
_RECORD_BATCH = 50


class Memory:
    """`client.memory`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _archival(self) -> ArchivalMemoryServiceAsyncStub:
        return ArchivalMemoryServiceStub(self._connection.channel)

    @functools.cached_property
    def _recall(self) -> RecallMemoryServiceAsyncStub:
        return RecallMemoryServiceStub(self._connection.channel)

    @functools.cached_property
    def _transfer(self) -> TransferServiceAsyncStub:
        return TransferServiceStub(self._connection.channel)

    @functools.cached_property
    def _index(self) -> IndexServiceAsyncStub:
        return IndexServiceStub(self._connection.channel)

    async def insert(
        self, agent_id: str, passages: Iterable[PassageSpec | str], *, request_id: str = ""
    ) -> InsertPassagesResponse:
        """Stores up to 500 passages, all or none. `.passages` in the order given; what the agent knew already is not stored again."""
        specs = [PassageSpec(text=p) if isinstance(p, str) else p for p in passages]
        request = InsertPassagesRequest(request_id=request_id or new_request_id(), agent_id=agent_id, passages=specs)
        return await self._connection.call(self._archival.InsertPassages, request)

    async def get(self, passage_id: str) -> Passage:
        """A passage by id. Raises NotFoundError."""
        request = GetPassageRequest(passage_id=passage_id)
        return (await self._connection.call(self._archival.GetPassage, request)).passage

    def list(self, *, agent_id: str = "", tags: TagFilter | None = None, page_size: int = 0) -> AsyncIterator[Passage]:
        """Passages, newest first."""

        async def fetch(token: str) -> tuple[Sequence[Passage], str]:
            request = ListPassagesRequest(agent_id=agent_id, tags=tags, page_size=page_size, page_token=token)
            response = await self._connection.call(self._archival.ListPassages, request)
            return response.passages, response.next_page_token

        return pages(fetch)

    async def update(self, passage: Passage, *paths: str) -> Passage:
        """Changes the fields of a passage named by `paths`. Raises AbortedError ETAG_MISMATCH if its etag is set and stale."""
        request = UpdatePassageRequest(passage=passage, update_mask=FieldMask(paths=paths))
        return (await self._connection.call(self._archival.UpdatePassage, request)).passage

    async def delete(self, passage_id: str) -> None:
        """Forgets a passage. Twice is fine."""
        await self._connection.call(self._archival.DeletePassage, DeletePassageRequest(passage_id=passage_id))

    async def search(
        self,
        query: str,
        *,
        agent_id: str = "",
        mode: SearchMode.ValueType = SearchMode.SEARCH_MODE_UNSPECIFIED,
        top_k: int = 0,
        tags: TagFilter | None = None,
        time_range: TimeRange | None = None,
        metadata: MetadataFilter | None = None,
        explain: bool = False,
        consistency_token: str = "",
    ) -> SearchPassagesResponse:
        """The passages that fit best, `.hits` best first. `top_k` 0 means 10; `consistency_token` of an `insert` makes sure that its
        passages are found.
        """
        request = SearchPassagesRequest(
            query=query,
            agent_id=agent_id,
            mode=mode,
            top_k=top_k,
            tags=tags,
            time_range=time_range,
            metadata=metadata,
            explain=explain,
            consistency_token=consistency_token,
        )
        return await self._connection.call(self._archival.SearchPassages, request)

    async def search_messages(
        self,
        query: str,
        *,
        agent_id: str = "",
        conversation_id: str = "",
        mode: SearchMode.ValueType = SearchMode.SEARCH_MODE_UNSPECIFIED,
        top_k: int = 0,
        roles: Iterable[str] = (),
        time_range: TimeRange | None = None,
        context_before: int = 0,
        context_after: int = 0,
        explain: bool = False,
    ) -> SearchMessagesResponse:
        """What was said that fits best, `.hits` best first, each with up to 20 messages before and after."""
        request = SearchMessagesRequest(
            query=query,
            agent_id=agent_id,
            conversation_id=conversation_id,
            mode=mode,
            top_k=top_k,
            roles=roles,
            time_range=time_range,
            context_before=context_before,
            context_after=context_after,
            explain=explain,
        )
        return await self._connection.call(self._recall.SearchMessages, request)

    async def import_passages(
        self, agent_id: str, passages: Iterable[PassageSpec | str], *, import_id: str = ""
    ) -> AsyncIterator[ImportPassagesResponse]:
        """Stores any number of passages, 200 at a time; yields how far it is after each batch. Give the same `import_id` (a UUID) and the
        same passages again to go on where an import broke off.
        """
        stored = 0

        async def requests() -> AsyncIterator[ImportPassagesRequest]:
            # Asks first how far it is.
            yield ImportPassagesRequest(import_id=import_id or new_request_id(), agent_id=agent_id)
            rest = itertools.islice(passages, stored, None)
            offset = stored
            while batch := list(itertools.islice(rest, _IMPORT_BATCH)):
                specs = [PassageSpec(text=one) if isinstance(one, str) else one for one in batch]
                yield ImportPassagesRequest(offset=offset, passages=specs)
                offset += len(batch)

        async for response in self._connection.exchange(self._archival.ImportPassages, requests()):
            stored = response.stored_count
            yield response

    async def export(self, agent_id: str = "") -> AsyncIterator[MemoryRecord]:
        """All blocks and passages with their history, of an agent or of the organization."""
        request = ExportMemoryRequest(agent_id=agent_id)
        async for page in self._connection.stream(self._transfer.ExportMemory, request):
            for record in page.records:
                yield record

    async def import_records(
        self, records: Iterable[MemoryRecord], *, agent_id: str = ""
    ) -> AsyncIterator[ImportMemoryResponse]:
        """Stores what `export` gave, for the agents that the records name or for one; yields how far it is. Twice is fine."""

        async def requests() -> AsyncIterator[ImportMemoryRequest]:
            rest = iter(records)
            while batch := list(itertools.islice(rest, _RECORD_BATCH)):
                yield ImportMemoryRequest(records=batch, agent_id=agent_id)

        async for response in self._connection.exchange(self._transfer.ImportMemory, requests()):
            yield response

    async def index_status(self) -> GetIndexStatusResponse:
        """How far the index is behind what was written."""
        return await self._connection.call(self._index.GetIndexStatus, GetIndexStatusRequest())

    async def reindex(self) -> ReindexMemoryResponse:
        """Makes all of the organization's index entries anew, in the background. For administrators."""
        return await self._connection.call(self._index.ReindexMemory, ReindexMemoryRequest())

    async def reconcile(self, *, dry_run: bool = False) -> AsyncIterator[ReconcileIndexResponse]:
        """Compares memory with the index and repairs the index; yields the counts so far, the last is the result. For administrators."""
        request = ReconcileIndexRequest(dry_run=dry_run)
        async for response in self._connection.stream(self._index.ReconcileIndex, request):
            yield response


class BlockingMemory(BlockingFace[Memory]):
    """`client.memory`, blocking."""

    insert = call(Memory.insert)
    get = call(Memory.get)
    list = iterate(Memory.list)
    update = call(Memory.update)
    delete = call(Memory.delete)
    search = call(Memory.search)
    search_messages = call(Memory.search_messages)
    import_passages = iterate(Memory.import_passages)
    export = iterate(Memory.export)
    import_records = iterate(Memory.import_records)
    index_status = call(Memory.index_status)
    reindex = call(Memory.reindex)
    reconcile = iterate(Memory.reconcile)
