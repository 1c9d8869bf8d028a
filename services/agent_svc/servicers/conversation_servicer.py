"""ConversationService on the wire."""

from __future__ import annotations

from typing import Any

from agent_svc.domain.conversation import Conversation
from agent_svc.managers.conversation_manager import ConversationManager
from agent_svc.servicers.mapping import conversation_to_proto, message_to_proto, optional_id
from agent_svc.servicers.paging import Page
from chassis import ids
from chassis.idempotency import request_key
from chassis.identity import current
from chassis.once import Once
from chassis.pagination import PageTokens, page_size
from hearth.agent.v1 import conversation_service_pb2 as pb
from hearth.agent.v1.conversation_service_pb2_grpc import ConversationServiceServicer


class ConversationServicer(ConversationServiceServicer):
    """Messages in, messages out."""

    def __init__(self, conversations: ConversationManager, pages: PageTokens) -> None:
        self._conversations = conversations
        self._pages = pages

    async def CreateConversation(
        self, request: pb.CreateConversationRequest, context: Any
    ) -> pb.CreateConversationResponse:
        once = Once[Conversation](request_key(request), lambda made: _created(made).SerializeToString())
        agent_id = ids.decode("agent", request.agent_id)
        return _created(await self._conversations.create(current(), agent_id, request.display_name, once))

    async def GetConversation(self, request: pb.GetConversationRequest, context: Any) -> pb.GetConversationResponse:
        found = await self._conversations.get(current(), ids.decode("conv", request.conversation_id))
        return pb.GetConversationResponse(conversation=conversation_to_proto(found))

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Any
    ) -> pb.ListConversationsResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        agent_id = optional_id("agent", request.agent_id)
        found, more = await self._conversations.page(caller, agent_id, page.id, page_size(request.page_size))
        return pb.ListConversationsResponse(
            conversations=[conversation_to_proto(one) for one in found],
            next_page_token=page.next(found[-1].id if found else None, more),
        )

    async def UpdateConversation(
        self, request: pb.UpdateConversationRequest, context: Any
    ) -> pb.UpdateConversationResponse:
        given = request.conversation
        conversation_id = ids.decode("conv", given.id)
        renamed = await self._conversations.rename(current(), conversation_id, given.display_name, given.etag)
        return pb.UpdateConversationResponse(conversation=conversation_to_proto(renamed))

    async def DeleteConversation(
        self, request: pb.DeleteConversationRequest, context: Any
    ) -> pb.DeleteConversationResponse:
        await self._conversations.delete(current(), ids.decode("conv", request.conversation_id))
        return pb.DeleteConversationResponse()

    async def ForkConversation(self, request: pb.ForkConversationRequest, context: Any) -> pb.ForkConversationResponse:
        once = Once[Conversation](request_key(request), lambda made: _forked(made).SerializeToString())
        return _forked(
            await self._conversations.fork(
                current(),
                ids.decode("conv", request.conversation_id),
                optional_id("msg", request.message_id),
                request.seq if request.HasField("seq") else None,
                request.display_name,
                once,
            )
        )

    async def ListMessages(self, request: pb.ListMessagesRequest, context: Any) -> pb.ListMessagesResponse:
        caller = current()
        page = Page(self._pages, request, request.page_token, caller)
        found, more = await self._conversations.messages(
            caller,
            ids.decode("conv", request.conversation_id),
            page.seq,
            page_size(request.page_size),
            newest_first=request.order == pb.LIST_MESSAGES_ORDER_NEWEST_FIRST,
        )
        organization_id = ids.encode("org", caller.organization_id)
        return pb.ListMessagesResponse(
            messages=[message_to_proto(one, organization_id, request.conversation_id) for one in found],
            next_page_token=page.next(found[-1].seq if found else None, more),
        )


def _created(conversation: Conversation) -> pb.CreateConversationResponse:
    return pb.CreateConversationResponse(conversation=conversation_to_proto(conversation))


def _forked(conversation: Conversation) -> pb.ForkConversationResponse:
    return pb.ForkConversationResponse(conversation=conversation_to_proto(conversation))
