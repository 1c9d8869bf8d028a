"""Conversations: made, renamed, read and removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from agent_svc.domain.changes import etag
from agent_svc.domain.conversation import Conversation, Message
from agent_svc.domain.event import MessageCompleted
from agent_svc.domain.log_copy import renumbered, whole_until
from agent_svc.interfaces.event_codec import EventCodec
from agent_svc.interfaces.identities import Identities
from agent_svc.interfaces.memory import AgentBlocks
from agent_svc.interfaces.unit_of_work import Transaction, UnitOfWork
from chassis import ids
from chassis.errors import FailedPrecondition, etag_mismatch, invalid_field
from chassis.identity import Identity, use
from chassis.once import Once

# What one fork copies at the most, all of it in one transaction.
MAX_FORKED = 20_000


class ConversationManager:
    """Business rules of conversations."""

    def __init__(self, work: UnitOfWork, memory: AgentBlocks, identities: Identities, codec: EventCodec) -> None:
        self._work = work
        self._memory = memory
        self._identities = identities
        self._codec = codec

    async def create(
        self, caller: Identity, agent_id: UUID, display_name: str, once: Once[Conversation]
    ) -> Conversation:
        """An empty conversation. Raises NotFound for the agent."""
        now = datetime.now(UTC)
        conversation = Conversation(ids.new(), caller.organization_id, agent_id, display_name, 0, now, now)
        async with self._work.of(caller.organization_id) as transaction, transaction.once(once.key) as answer:
            if await transaction.agents.get(agent_id) is None:
                raise ids.absent("agent", agent_id)
            await transaction.conversations.add(conversation)
            answer.save(once.encode(conversation))
        return conversation

    async def fork(
        self,
        caller: Identity,
        conversation_id: UUID,
        message_id: UUID | None,
        seq: int | None,
        display_name: str,
        once: Once[Conversation],
    ) -> Conversation:
        """A conversation of the same agent with the messages until one of them (by id, or by seq), as `whole_until` says.

        Recall memory has them as the other conversation's and does not get them twice. Raises NotFound for the conversation
        and the message, InvalidArgument if there are more than MAX_FORKED messages.
        """
        now = datetime.now(UTC)
        async with self._work.of(caller.organization_id) as transaction, transaction.once(once.key) as answer:
            source = await _found(transaction, conversation_id)
            messages = await transaction.conversations.messages(
                conversation_id, None, MAX_FORKED + 1, newest_first=False
            )
            if len(messages) > MAX_FORKED:
                raise invalid_field("conversation_id", f"has more than {MAX_FORKED} messages")
            try:
                kept = whole_until(messages, message_id and (lambda message: message.id == message_id), seq)
            except LookupError:
                raise ids.absent("msg", message_id or conversation_id) from None
            copies = renumbered(kept, ids.new)
            fork = Conversation(
                ids.new(),
                caller.organization_id,
                source.agent_id,
                display_name or source.display_name,
                len(copies),
                now,
                now,
            )
            await transaction.conversations.add(fork)
            entries = [(one, self._codec.encode(MessageCompleted(one), one.create_time)) for one in copies]
            await transaction.conversations.fill(fork.id, entries, indexed=True)
            answer.save(once.encode(fork))
        return fork

    async def get(self, caller: Identity, conversation_id: UUID) -> Conversation:
        """Raises NotFound."""
        async with self._work.of(caller.organization_id) as transaction:
            return await _found(transaction, conversation_id)

    async def page(
        self, caller: Identity, agent_id: UUID | None, before: UUID | None, size: int
    ) -> tuple[Sequence[Conversation], bool]:
        """Newest first, and whether there are more."""
        async with self._work.of(caller.organization_id) as transaction:
            found = await transaction.conversations.page(agent_id, before, size + 1)
        return found[:size], len(found) > size

    async def rename(self, caller: Identity, conversation_id: UUID, display_name: str, given_etag: str) -> Conversation:
        """Raises NotFound, Aborted ETAG_MISMATCH."""
        async with self._work.of(caller.organization_id) as transaction:
            found = await transaction.conversations.get_for_update(conversation_id)
            if found is None:
                raise ids.absent("conv", conversation_id)
            if given_etag and given_etag != etag(found.version):
                raise etag_mismatch()
            renamed = replace(
                found, display_name=display_name, version=found.version + 1, update_time=datetime.now(UTC)
            )
            await transaction.conversations.rename(renamed)
        return renamed

    async def delete(self, caller: Identity, conversation_id: UUID) -> None:
        """Removes a conversation; a run of its stops, since its log is gone. Twice is OK, and finishes a first try.

        Raises FailedPrecondition RESOURCE_IN_USE for an agent's default conversation.
        """
        async with self._work.of(caller.organization_id) as transaction:
            found = await transaction.conversations.get_for_update(conversation_id)
            if found is not None:
                agent = await transaction.agents.get(found.agent_id)
                if agent is not None and agent.default_conversation_id == conversation_id:
                    raise FailedPrecondition(
                        "this is the default conversation of its agent",
                        reason="RESOURCE_IN_USE",
                        metadata={"used_by": ids.encode("agent", agent.id)},
                    )
                await transaction.conversations.delete(conversation_id)
        user = caller.subject if caller.subject.startswith("user_") else caller.on_behalf_of
        with use(await self._identities.identity_for(caller.organization_id, user)):
            await self._memory.forget_conversation(conversation_id)

    async def messages(
        self, caller: Identity, conversation_id: UUID, position: int | None, size: int, *, newest_first: bool
    ) -> tuple[Sequence[Message], bool]:
        """A page of messages by seq, and whether there are more. Raises NotFound."""
        async with self._work.of(caller.organization_id) as transaction:
            await _found(transaction, conversation_id)
            found = await transaction.conversations.messages(
                conversation_id, position, size + 1, newest_first=newest_first
            )
        return found[:size], len(found) > size


async def _found(transaction: Transaction, conversation_id: UUID) -> Conversation:
    found = await transaction.conversations.get(conversation_id)
    if found is None:
        raise ids.absent("conv", conversation_id)
    return found
