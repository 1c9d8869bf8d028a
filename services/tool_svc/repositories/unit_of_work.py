"""Transactions in PostgreSQL, each set to one organization."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from chassis.database import Database
from chassis.idempotency import Replayed, Slot, idempotent
from chassis.once import RequestKey
from tool_svc.repositories.mcp_server_repository import PostgresMcpServers
from tool_svc.repositories.secret_repository import PostgresSecrets
from tool_svc.repositories.tool_repository import PostgresTools


class PostgresTransaction:
    """A Transaction over one session."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id
        self.tools = PostgresTools(session, organization_id)
        self.secrets = PostgresSecrets(session, organization_id)
        self.mcp_servers = PostgresMcpServers(session, organization_id)

    @asynccontextmanager
    async def once(self, key: RequestKey | None) -> AsyncGenerator[Slot]:
        async with idempotent(self._session, self._organization_id, key) as slot:
            if slot.replay is not None:
                raise Replayed(slot.replay)
            yield slot


class PostgresUnitOfWork:
    """A UnitOfWork over tool_svc's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def of(self, organization_id: UUID) -> AsyncGenerator[PostgresTransaction]:
        async with self._database.transaction(organization_id) as session:
            yield PostgresTransaction(session, organization_id)
