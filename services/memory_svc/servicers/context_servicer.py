"""The internal ContextService on the wire."""

from typing import Any

from chassis import ids
from chassis.identity import current
from hearth.memory.internal.v1 import context_service_pb2 as pb
from hearth.memory.internal.v1.context_service_pb2_grpc import ContextServiceServicer
from memory_svc.domain.passages import Passage
from memory_svc.managers.context_manager import ContextManager, ContextRequest, RecalledHit
from memory_svc.servicers.callers import optional_id
from memory_svc.servicers.mapping import timestamp


class ContextServicer(ContextServiceServicer):
    """Messages in, messages out."""

    def __init__(self, contexts: ContextManager) -> None:
        self._contexts = contexts

    async def CompileContext(self, request: pb.CompileContextRequest, context: Any) -> pb.CompileContextResponse:
        compiled = await self._contexts.compile(
            ContextRequest(
                organization_id=current().organization_id,
                agent_id=ids.decode("agent", request.agent_id),
                input=request.input,
                budget_tokens=request.recall_budget_tokens,
                top_k=request.recall_top_k,
                conversation_id=optional_id("conv", request.conversation_id),
                exclude_from_seq=request.exclude_from_seq,
            )
        )
        return pb.CompileContextResponse(
            blocks_text=compiled.blocks_text,
            recalled_text=compiled.recalled_text,
            hits=map(_hit, compiled.hits),
            passage_count=compiled.passage_count,
            message_count=compiled.message_count,
            blocks_version=compiled.blocks_version,
            layout_version=compiled.layout_version,
            degraded=compiled.degraded,
        )


def _hit(hit: RecalledHit) -> pb.RecalledHit:
    prefix = "psg" if isinstance(hit.item, Passage) else "msg"
    return pb.RecalledHit(
        resource_id=ids.encode(prefix, hit.item.id),
        text=hit.text,
        score=hit.score,
        create_time=timestamp(hit.item.create_time),
    )
