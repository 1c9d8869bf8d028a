"""Transactions in PostgreSQL, each of one organization."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from agent_svc.repositories.agent_repository import PostgresAgents
from agent_svc.repositories.conversation_repository import PostgresConversations
from agent_svc.repositories.run_repository import PostgresRuns
from agent_svc.repositories.template_repository import PostgresTemplates
from chassis.database import Database
from chassis.idempotency import Replayed, Slot, idempotent
from chassis.once import RequestKey


class PostgresTransaction:
    """Implements interfaces.unit_of_work.Transaction over one session."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id
        self.agents = PostgresAgents(session, organization_id)
        self.conversations = PostgresConversations(session, organization_id)
        self.runs = PostgresRuns(session, organization_id)
        self.templates = PostgresTemplates(session, organization_id)

    @asynccontextmanager
    async def once(self, key: RequestKey | None) -> AsyncGenerator[Slot]:
        async with idempotent(self._session, self._organization_id, key) as slot:
            if slot.replay is not None:
                raise Replayed(slot.replay)
            yield slot


class PostgresUnitOfWork:
    """Implements interfaces.unit_of_work.UnitOfWork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def of(self, organization_id: UUID) -> AsyncGenerator[PostgresTransaction]:
        async with self._database.transaction(organization_id) as session:
            yield PostgresTransaction(session, organization_id)
