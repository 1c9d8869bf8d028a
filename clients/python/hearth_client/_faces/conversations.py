"""Conversations and their messages."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from google.protobuf.field_mask_pb2 import FieldMask

from hearth.agent.v1.conversation_pb2 import Conversation, Message
from hearth.agent.v1.conversation_service_pb2 import (
    CreateConversationRequest,
    DeleteConversationRequest,
    GetConversationRequest,
    ListConversationsRequest,
    ListMessagesOrder,
    ListMessagesRequest,
    UpdateConversationRequest,
)
from hearth.agent.v1.conversation_service_pb2_grpc import ConversationServiceStub
from hearth.agent.v1.run_service_pb2_grpc import RunServiceStub
from hearth_client._blocking import BlockingFace, call, follow, iterate
from hearth_client._connection import Connection, new_request_id
from hearth_client._paging import pages
from hearth_client._stream import ConversationStream

if TYPE_CHECKING:
    from hearth.agent.v1.conversation_service_pb2_grpc import ConversationServiceAsyncStub


class Conversations:
    """`client.conversations`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @functools.cached_property
    def _stub(self) -> ConversationServiceAsyncStub:
        return ConversationServiceStub(self._connection.channel)

    async def create(self, agent_id: str, *, display_name: str = "", request_id: str = "") -> Conversation:
        """An empty conversation with an agent."""
        request = CreateConversationRequest(
            request_id=request_id or new_request_id(), agent_id=agent_id, display_name=display_name
        )
        return (await self._connection.call(self._stub.CreateConversation, request)).conversation

    async def get(self, conversation_id: str) -> Conversation:
        """By id. Raises NotFoundError."""
        request = GetConversationRequest(conversation_id=conversation_id)
        return (await self._connection.call(self._stub.GetConversation, request)).conversation

    def list(self, *, agent_id: str = "", page_size: int = 0) -> AsyncIterator[Conversation]:
        """Newest first; of one agent, or of all."""

        async def fetch(token: str) -> tuple[Sequence[Conversation], str]:
            request = ListConversationsRequest(agent_id=agent_id, page_size=page_size, page_token=token)
            response = await self._connection.call(self._stub.ListConversations, request)
            return response.conversations, response.next_page_token

        return pages(fetch)

    async def update(self, conversation: Conversation, *paths: str) -> Conversation:
        """Changes the fields named by `paths`: display_name."""
        request = UpdateConversationRequest(conversation=conversation, update_mask=FieldMask(paths=paths))
        return (await self._connection.call(self._stub.UpdateConversation, request)).conversation

    async def delete(self, conversation_id: str) -> None:
        """Removes it with its messages. Twice is fine; an agent's default one: FailedPreconditionError RESOURCE_IN_USE."""
        request = DeleteConversationRequest(conversation_id=conversation_id)
        await self._connection.call(self._stub.DeleteConversation, request)

    def messages(
        self, conversation_id: str, *, newest_first: bool = False, page_size: int = 0
    ) -> AsyncIterator[Message]:
        """Oldest first, unless told otherwise."""
        order = (
            ListMessagesOrder.LIST_MESSAGES_ORDER_NEWEST_FIRST
            if newest_first
            else ListMessagesOrder.LIST_MESSAGES_ORDER_OLDEST_FIRST
        )

        async def fetch(token: str) -> tuple[Sequence[Message], str]:
            request = ListMessagesRequest(
                conversation_id=conversation_id, order=order, page_size=page_size, page_token=token
            )
            response = await self._connection.call(self._stub.ListMessages, request)
            return response.messages, response.next_page_token

        return pages(fetch)

    def watch(self, conversation_id: str, *, after_seq: int = 0) -> ConversationStream:
        """Frames of all its runs, without end: events after `after_seq` (0: from the start), then what comes."""
        return ConversationStream(
            self._connection,
            lambda: RunServiceStub(self._connection.channel),
            conversation_id=conversation_id,
            after_seq=after_seq,
        )


class BlockingConversations(BlockingFace[Conversations]):
    """`client.conversations`, blocking."""

    create = call(Conversations.create)
    get = call(Conversations.get)
    list = iterate(Conversations.list)
    update = call(Conversations.update)
    delete = call(Conversations.delete)
    messages = iterate(Conversations.messages)
    watch = follow(Conversations.watch)
