"""Transactions: one organization's rows, all or nothing."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from chassis.once import RequestKey
from tool_svc.interfaces.repositories import McpServerRepository, SecretRepository, ToolRepository


class Answer(Protocol):
    """Takes the answer of a request, to be given again when the request comes again."""

    def save(self, response: bytes) -> None:
        """Keeps the serialized answer with the effect."""
        ...


class Transaction(Protocol):
    """What can be done in one transaction."""

    @property
    def tools(self) -> ToolRepository: ...

    @property
    def secrets(self) -> SecretRepository: ...

    @property
    def mcp_servers(self) -> McpServerRepository: ...

    def once(self, key: RequestKey | None) -> AbstractAsyncContextManager[Answer]:
        """A block that a repeated request does not enter: it is answered as before."""
        ...


class UnitOfWork(Protocol):
    """Opens transactions. Each commits when its block ends well, and leaves nothing behind otherwise."""

    def of(self, organization_id: UUID) -> AbstractAsyncContextManager[Transaction]:
        """Sees one organization."""
        ...
