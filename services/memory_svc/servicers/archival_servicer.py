"""ArchivalMemoryService on the wire."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from chassis import ids
from chassis.errors import invalid_field
from chassis.idempotency import Once, request_key
from chassis.identity import current
from chassis.pagination import PageTokens, fingerprint, page_size
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from hearth.memory.v1 import search_pb2
from hearth.memory.v1.archival_memory_service_pb2_grpc import ArchivalMemoryServiceServicer
from memory_svc.domain.passages import Passage, key_term, metadata_terms
from memory_svc.domain.search import MemoryKind, Scope, SearchResult
from memory_svc.domain.times import end_of, start_of
from memory_svc.managers.import_manager import ImportManager
from memory_svc.managers.passage_manager import Inserted, PassageManager
from memory_svc.servicers.callers import author, optional_id
from memory_svc.servicers.mapping import (
    any_term,
    bounds_of,
    draft_from_proto,
    explanation,
    metadata_from_proto,
    mode_from_proto,
    optional_time,
    passage_to_proto,
)

# Field of the resource → field of a draft.
_UPDATABLE = {"valid_from_time": "valid_from", "valid_to_time": "valid_to"}


class ArchivalMemoryServicer(ArchivalMemoryServiceServicer):
    """Messages in, messages out."""

    def __init__(self, passages: PassageManager, imports: ImportManager, pages: PageTokens) -> None:
        self._passages = passages
        self._imports = imports
        self._pages = pages

    async def InsertPassages(self, request: pb.InsertPassagesRequest, context: Any) -> pb.InsertPassagesResponse:
        drafts = [draft_from_proto(given, f"passages[{place}]") for place, given in enumerate(request.passages)]
        once: Once[Inserted] = Once(request_key(request), lambda inserted: _inserted(inserted).SerializeToString())
        agent_id = ids.decode("agent", request.agent_id)
        return _inserted(await self._passages.insert(current().organization_id, agent_id, drafts, author(), once))

    async def ImportPassages(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ImportPassagesResponse]:
        organization_id = current().organization_id
        import_id: uuid.UUID | None = None
        agent_id: uuid.UUID | None = None
        async for request in request_iterator:
            import_id = _unchanged(import_id, request.import_id, uuid.UUID, "import_id") or uuid.uuid4()
            agent_id = _unchanged(agent_id, request.agent_id, lambda text: ids.decode("agent", text), "agent_id")
            if agent_id is None:
                raise invalid_field("agent_id", "is required in the first message")
            drafts = [draft_from_proto(given, f"passages[{place}]") for place, given in enumerate(request.passages)]
            progress = await self._imports.store(organization_id, import_id, agent_id, request.offset, drafts, author())
            yield pb.ImportPassagesResponse(
                stored_count=progress.stored_count, duplicate_count=progress.duplicate_count
            )

    async def GetPassage(self, request: pb.GetPassageRequest, context: Any) -> pb.GetPassageResponse:
        passage = await self._passages.get(current().organization_id, ids.decode("psg", request.passage_id))
        return pb.GetPassageResponse(passage=passage_to_proto(passage))

    async def ListPassages(self, request: pb.ListPassagesRequest, context: Any) -> pb.ListPassagesResponse:
        organization_id = current().organization_id
        query = fingerprint(request, organization_id)
        position = self._pages.verify(request.page_token, query)
        before = None if position is None else uuid.UUID(str(position[0]))
        found, last = await self._passages.page(
            organization_id,
            optional_id("agent", request.agent_id),
            _tagged(organization_id, request.tags),
            before,
            page_size(request.page_size),
        )
        return pb.ListPassagesResponse(
            passages=map(passage_to_proto, found),
            next_page_token=self._pages.sign(query, [str(last)]) if last else "",
        )

    async def UpdatePassage(self, request: pb.UpdatePassageRequest, context: Any) -> pb.UpdatePassageResponse:
        passage = await self._passages.update(
            current().organization_id,
            ids.decode("psg", request.passage.id),
            request.passage.etag,
            draft_from_proto(request.passage, "passage"),
            [_UPDATABLE.get(path, path) for path in request.update_mask.paths],
            author(),
        )
        return pb.UpdatePassageResponse(passage=passage_to_proto(passage))

    async def DeletePassage(self, request: pb.DeletePassageRequest, context: Any) -> pb.DeletePassageResponse:
        await self._passages.delete(current().organization_id, ids.decode("psg", request.passage_id))
        return pb.DeletePassageResponse()

    async def SearchPassages(self, request: pb.SearchPassagesRequest, context: Any) -> pb.SearchPassagesResponse:
        page = await self._passages.search(
            _scope(request, current().organization_id),
            request.query,
            mode_from_proto(request.mode),
            request.top_k,
            request.consistency_token,
        )
        return pb.SearchPassagesResponse(
            hits=[_hit(result, request.explain) for result in page.results], degraded=page.degraded
        )


def _unchanged(known: uuid.UUID | None, text: str, read: Callable[[str], uuid.UUID], field: str) -> uuid.UUID | None:
    """What a stream says once and may repeat. Raises InvalidArgument where it says something else later."""
    if not text:
        return known
    given = read(text)
    if known is not None and given != known:
        raise invalid_field(field, "must be the same in all messages of a stream")
    return given


def _inserted(inserted: Inserted) -> pb.InsertPassagesResponse:
    return pb.InsertPassagesResponse(
        passages=map(passage_to_proto, inserted.passages), consistency_token=inserted.consistency_token
    )


def _tagged(organization_id: uuid.UUID, tags: search_pb2.TagFilter) -> Scope:
    return Scope(
        organization_id,
        MemoryKind.PASSAGE,
        tags_any=tuple(tags.any),
        tags_all=tuple(tags.all),
        tags_none=tuple(tags.none),
    )


def _scope(request: pb.SearchPassagesRequest, organization_id: uuid.UUID) -> Scope:
    equals = metadata_from_proto(request.metadata.equals, "metadata.equals")
    conditions = request.metadata.conditions
    return Scope(
        organization_id,
        MemoryKind.PASSAGE,
        agent_id=optional_id("agent", request.agent_id),
        tags_any=tuple(request.tags.any),
        tags_all=tuple(request.tags.all),
        tags_none=tuple(request.tags.none),
        start_time=start_of(getattr(request.time_range, "from"), "time_range.from"),
        end_time=end_of(request.time_range.to, "time_range.to"),
        metadata=(*metadata_terms(equals), *_keys(conditions, present=True)),
        metadata_any=tuple(
            any_term(one, f"metadata.conditions[{place}]")
            for place, one in enumerate(conditions)
            if one.WhichOneof("condition") == "any_of"
        ),
        metadata_none=_keys(conditions, present=False),
        metadata_numbers=tuple(bounds_of(one) for one in conditions if one.WhichOneof("condition") == "number"),
        valid_at=optional_time(request, "valid_at_time", ""),
    )


def _keys(conditions: Iterable[search_pb2.MetadataCondition], *, present: bool) -> tuple[str, ...]:
    """The keys that must be there, or must not."""
    return tuple(
        key_term(one.key) for one in conditions if one.WhichOneof("condition") == "exists" and one.exists is present
    )


def _hit(result: SearchResult[Passage], explain: bool) -> pb.PassageHit:
    return pb.PassageHit(
        passage=passage_to_proto(result.item),
        score=result.score,
        explanation=explanation(result.signals) if explain else None,
    )
