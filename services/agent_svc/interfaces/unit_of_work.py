"""The catalogue of agents and conversations, in transactions that belong to one organization."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from agent_svc.domain.agent import Agent
from agent_svc.domain.conversation import Conversation, Message
from agent_svc.domain.event import EncodedEvent
from agent_svc.domain.run import Run, RunContext
from agent_svc.domain.template import Template
from chassis.once import RequestKey


class AgentRepository(Protocol):
    """The agents of the transaction's organization."""

    async def add(self, agent: Agent) -> None:
        """Raises AlreadyExists NAME_TAKEN."""
        ...

    async def get(self, agent_id: UUID) -> Agent | None: ...

    async def named(self, name: str) -> Agent | None: ...

    async def get_for_update(self, agent_id: UUID) -> Agent | None:
        """One that nobody else can change until the transaction ends."""
        ...

    async def page(self, tags: Sequence[str], text: str, before: UUID | None, limit: int) -> Sequence[Agent]:
        """Newest first, older than `before`, with all the tags, whose name or description contains the text."""
        ...

    async def save(self, agent: Agent) -> None:
        """Writes one that was got for update. Raises AlreadyExists NAME_TAKEN."""
        ...

    async def delete(self, agent_id: UUID) -> None:
        """Removes one with its conversations and all that is in them; nothing if it is not there."""
        ...


class ConversationRepository(Protocol):
    """The conversations of the transaction's organization."""

    async def add(self, conversation: Conversation) -> None: ...

    async def get(self, conversation_id: UUID) -> Conversation | None: ...

    async def get_for_update(self, conversation_id: UUID) -> Conversation | None:
        """One that nobody else can change until the transaction ends."""
        ...

    async def page(self, agent_id: UUID | None, before: UUID | None, limit: int) -> Sequence[Conversation]:
        """Newest first, older than `before`."""
        ...

    async def rename(self, conversation: Conversation) -> None:
        """Writes the display name and version of one that was got for update."""
        ...

    async def delete(self, conversation_id: UUID) -> None:
        """Removes one with all that is in it; nothing if it is not there."""
        ...

    async def messages(
        self, conversation_id: UUID, position: int | None, limit: int, *, newest_first: bool
    ) -> Sequence[Message]:
        """Messages by seq, beyond a position."""
        ...

    async def fill(
        self, conversation_id: UUID, entries: Sequence[tuple[Message, EncodedEvent]], *, indexed: bool
    ) -> None:
        """Makes messages, numbered from 1, and the events that tell of them the log of an empty conversation.

        `indexed`: recall memory has them already, or shall not have them.
        """
        ...


class RunRepository(Protocol):
    """The runs of the transaction's organization, for reading."""

    async def get(self, run_id: UUID) -> Run | None: ...

    async def page(
        self,
        agent_id: UUID | None,
        conversation_id: UUID | None,
        states: Sequence[int],
        before: UUID | None,
        limit: int,
    ) -> Sequence[Run]:
        """Newest first, older than `before`."""
        ...

    async def contexts(self, run_id: UUID) -> Sequence[RunContext]:
        """What the model saw, step by step."""
        ...


class TemplateRepository(Protocol):
    """The templates of the transaction's organization."""

    async def add_or_lock(self, template: Template, author: str) -> Template | None:
        """Adds one and returns None; if its name is taken, returns the newest version, which nobody changes until the end."""
        ...

    async def add_version(self, template: Template, author: str) -> None:
        """The next version of one that is locked."""
        ...

    async def named(self, name: str, version: int) -> Template | None:
        """A version, 0: the newest."""
        ...

    async def page(self, text: str, before: UUID | None, limit: int) -> Sequence[Template]:
        """The newest versions, without documents: newest template first, older than `before`."""
        ...

    async def versions(self, template_id: UUID, before: int | None, limit: int) -> Sequence[Template]:
        """Newest first, older than `before`, without documents."""
        ...

    async def delete(self, name: str) -> None:
        """Removes one with its versions; nothing if it is not there."""
        ...


class AnswerSlot(Protocol):
    """Where the answer to a request id is kept."""

    def save(self, response: bytes) -> None: ...


class Transaction(Protocol):
    """What one transaction can reach."""

    @property
    def agents(self) -> AgentRepository: ...

    @property
    def conversations(self) -> ConversationRepository: ...

    @property
    def runs(self) -> RunRepository: ...

    @property
    def templates(self) -> TemplateRepository: ...

    def once(self, key: RequestKey | None) -> AbstractAsyncContextManager[AnswerSlot]:
        """Claims a request id for the block; ends the call with the first answer if there was one."""
        ...


class UnitOfWork(Protocol):
    """Commits when the block ends well, else leaves no trace."""

    def of(self, organization_id: UUID) -> AbstractAsyncContextManager[Transaction]: ...
