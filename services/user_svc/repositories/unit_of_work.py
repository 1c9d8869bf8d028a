"""Transactions in PostgreSQL, each set to what it may see."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from chassis.database import Database
from chassis.idempotency import Replayed, Slot, idempotent
from chassis.identity import NO_ORGANIZATION
from chassis.once import RequestKey
from user_svc.repositories.api_key_repository import PostgresApiKeys
from user_svc.repositories.organization_repository import PostgresOrganizations
from user_svc.repositories.revocation_repository import PostgresRevocations
from user_svc.repositories.signing_key_repository import PostgresSigningKeys
from user_svc.repositories.trusted_issuer_repository import PostgresTrustedIssuers
from user_svc.repositories.user_repository import PostgresUsers

_PLATFORM = sa.text("SELECT set_config('hearth.platform', 'on', true)")
_ENTER = sa.text("SELECT set_config('hearth.organization_id', :organization_id, true)")
_ALONE = sa.text("SELECT pg_advisory_xact_lock(hashtext(:what))")


class PostgresTransaction:
    """A Transaction over one session."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self.organizations = PostgresOrganizations(session)
        self.users = PostgresUsers(session, organization_id)
        self.api_keys = PostgresApiKeys(session, organization_id)
        self.trusted_issuers = PostgresTrustedIssuers(session, organization_id)
        self.signing_keys = PostgresSigningKeys(session)
        self.revocations = PostgresRevocations(session)

    @asynccontextmanager
    async def once(self, organization_id: UUID, key: RequestKey | None) -> AsyncGenerator[Slot]:
        async with idempotent(self._session, organization_id, key) as slot:
            if slot.replay is not None:
                raise Replayed(slot.replay)
            yield slot

    async def enter(self, organization_id: UUID) -> None:
        await self._session.execute(_ENTER, {"organization_id": str(organization_id)})
        self.users = PostgresUsers(self._session, organization_id)
        self.api_keys = PostgresApiKeys(self._session, organization_id)
        self.trusted_issuers = PostgresTrustedIssuers(self._session, organization_id)

    async def alone(self, what: str) -> None:
        await self._session.execute(_ALONE, {"what": f"user_svc {what}"})


class PostgresUnitOfWork:
    """A UnitOfWork over user_svc's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def of(self, organization_id: UUID) -> AsyncGenerator[PostgresTransaction]:
        async with self._database.transaction(organization_id) as session:
            yield PostgresTransaction(session, organization_id)

    @asynccontextmanager
    async def of_platform(self, acting_organization_id: UUID | None) -> AsyncGenerator[PostgresTransaction]:
        async with self._database.transaction(acting_organization_id) as session:
            await session.execute(_PLATFORM)
            yield PostgresTransaction(session, acting_organization_id or NO_ORGANIZATION)

    @asynccontextmanager
    async def of_nobody(self) -> AsyncGenerator[PostgresTransaction]:
        async with self._database.transaction(None) as session:
            yield PostgresTransaction(session, NO_ORGANIZATION)
