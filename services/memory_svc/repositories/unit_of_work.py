"""Transactions and the repositories inside them."""

import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from chassis.database import Database
from chassis.idempotency import Once, Replayed, idempotent
from memory_svc.interfaces.unit_of_work import Transaction
from memory_svc.repositories.agents import SqlAgentMemory
from memory_svc.repositories.blocks import SqlBlocks
from memory_svc.repositories.imports import SqlImports
from memory_svc.repositories.messages import SqlMessages
from memory_svc.repositories.outbox import SqlOutbox
from memory_svc.repositories.passages import SqlPassages

Answer = TypeVar("Answer")


class SqlTransaction:
    """One database transaction, seen as repositories."""

    def __init__(self, session: AsyncSession, organization_id: uuid.UUID | None) -> None:
        self._session = session
        self._organization_id = organization_id

    @property
    def blocks(self) -> SqlBlocks:
        return SqlBlocks(self._session, self._tenant())

    @property
    def passages(self) -> SqlPassages:
        return SqlPassages(self._session, self._tenant())

    @property
    def messages(self) -> SqlMessages:
        return SqlMessages(self._session, self._tenant())

    @property
    def agents(self) -> SqlAgentMemory:
        return SqlAgentMemory(self._session, self._tenant())

    @property
    def imports(self) -> SqlImports:
        return SqlImports(self._session, self._tenant())

    @property
    def outbox(self) -> SqlOutbox:
        return SqlOutbox(self._session)

    def once(self, once: Once[Answer]) -> AbstractAsyncContextManager[Callable[[Answer], None]]:
        return self._once(once)

    @asynccontextmanager
    async def _once(self, once: Once[Answer]) -> AsyncGenerator[Callable[[Answer], None]]:
        async with idempotent(self._session, self._tenant(), once.key) as slot:
            if slot.replay is not None:
                raise Replayed(slot.replay)
            yield lambda answer: slot.save(once.encode(answer))

    def _tenant(self) -> uuid.UUID:
        if self._organization_id is None:
            raise RuntimeError("this transaction belongs to no organization")
        return self._organization_id


class SqlUnitOfWork:
    """Begins transactions on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, organization_id: uuid.UUID | None) -> AbstractAsyncContextManager[Transaction]:
        return self._begin(organization_id)

    @asynccontextmanager
    async def _begin(self, organization_id: uuid.UUID | None) -> AsyncGenerator[Transaction]:
        async with self._database.transaction(organization_id) as session:
            yield SqlTransaction(session, organization_id)
