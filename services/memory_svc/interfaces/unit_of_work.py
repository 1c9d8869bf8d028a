"""The role of transactions: all that happens in one is committed together, for one organization."""

import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from chassis.once import Once
from memory_svc.interfaces.repositories import (
    AgentMemoryRepository,
    BlockRepository,
    ImportRepository,
    MessageRepository,
    Outbox,
    PassageRepository,
)

Answer = TypeVar("Answer")


class Transaction(Protocol):
    """The repositories of one transaction."""

    @property
    def blocks(self) -> BlockRepository: ...
    @property
    def passages(self) -> PassageRepository: ...
    @property
    def messages(self) -> MessageRepository: ...
    @property
    def agents(self) -> AgentMemoryRepository: ...
    @property
    def imports(self) -> ImportRepository: ...
    @property
    def outbox(self) -> Outbox: ...

    def once(self, once: Once[Answer]) -> AbstractAsyncContextManager[Callable[[Answer], None]]:
        """Runs the block for the first request with this key; the callable keeps its answer.

        A repeated request leaves the block by an exception that the server's edge turns into the first answer.
        """
        ...


class UnitOfWork(Protocol):
    """Begins transactions."""

    def begin(self, organization_id: uuid.UUID | None) -> AbstractAsyncContextManager[Transaction]:
        """A transaction set to an organization; commits when the block ends well. None sees no organization's rows."""
        ...
