"""RecallMemoryService and the internal RecallIndexService on the wire."""

from typing import Any

from chassis import ids
from chassis.identity import current
from hearth.memory.internal.v1 import recall_index_service_pb2 as index_pb
from hearth.memory.internal.v1.recall_index_service_pb2_grpc import RecallIndexServiceServicer
from hearth.memory.v1 import recall_memory_service_pb2 as pb
from hearth.memory.v1.recall_memory_service_pb2_grpc import RecallMemoryServiceServicer
from memory_svc.domain.messages import RecallMessage
from memory_svc.domain.search import MemoryKind, Scope, SearchResult
from memory_svc.domain.times import end_of, start_of
from memory_svc.managers.recall_manager import RecallManager, Surroundings
from memory_svc.servicers.callers import optional_id
from memory_svc.servicers.mapping import explanation, message_from_proto, message_to_proto, mode_from_proto


class RecallMemoryServicer(RecallMemoryServiceServicer):
    """Messages in, messages out."""

    def __init__(self, recall: RecallManager) -> None:
        self._recall = recall

    async def SearchMessages(self, request: pb.SearchMessagesRequest, context: Any) -> pb.SearchMessagesResponse:
        scope = Scope(
            current().organization_id,
            MemoryKind.MESSAGE,
            agent_id=optional_id("agent", request.agent_id),
            conversation_id=optional_id("conv", request.conversation_id),
            roles=tuple(request.roles),
            start_time=start_of(getattr(request.time_range, "from"), "time_range.from"),
            end_time=end_of(request.time_range.to, "time_range.to"),
        )
        around = Surroundings(request.context_before, request.context_after)
        mode = mode_from_proto(request.mode)
        page = await self._recall.search(scope, request.query, mode, request.top_k, around, request.consistency_token)
        return pb.SearchMessagesResponse(
            hits=[_hit(result, request.explain) for result in page.results], degraded=page.degraded
        )


class RecallIndexServicer(RecallIndexServiceServicer):
    """Messages in, messages out; for the owner of messages only."""

    def __init__(self, recall: RecallManager) -> None:
        self._recall = recall

    async def IndexMessages(
        self, request: index_pb.IndexMessagesRequest, context: Any
    ) -> index_pb.IndexMessagesResponse:
        organization_id = current().organization_id
        messages = [
            message_from_proto(given, organization_id, f"messages[{place}]")
            for place, given in enumerate(request.messages)
        ]
        token = await self._recall.index(organization_id, messages)
        return index_pb.IndexMessagesResponse(consistency_token=token)

    async def ForgetConversation(
        self, request: index_pb.ForgetConversationRequest, context: Any
    ) -> index_pb.ForgetConversationResponse:
        conversation_id = ids.decode("conv", request.conversation_id)
        await self._recall.forget_conversation(current().organization_id, conversation_id)
        return index_pb.ForgetConversationResponse()

    async def ForgetAgent(self, request: index_pb.ForgetAgentRequest, context: Any) -> index_pb.ForgetAgentResponse:
        await self._recall.forget_agent(current().organization_id, ids.decode("agent", request.agent_id))
        return index_pb.ForgetAgentResponse()


def _hit(result: SearchResult[RecallMessage], explain: bool) -> pb.MessageHit:
    return pb.MessageHit(
        message=message_to_proto(result.item),
        score=result.score,
        before=map(message_to_proto, result.before),
        after=map(message_to_proto, result.after),
        explanation=explanation(result.signals) if explain else None,
    )
