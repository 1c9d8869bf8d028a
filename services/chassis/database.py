"""The database of a service: a pool of connections, and transactions that belong to one organization."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString, TypeAlias, cast
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import PoolProxiedConnection

from chassis import audit
from chassis.audit.statements import COMMIT_WITH_RECORD, values_of
from chassis.errors import DomainError, InvalidArgument, ResourceExhausted, Unavailable
from chassis.migrations import sqlalchemy_url
from chassis.readings import Reading, reading

Driver: TypeAlias = "psycopg.AsyncConnection[Any]"

_log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5
_POOL_TIMEOUT_S = 5.0
_RECYCLE_S = 1800
_SESSION_OPTIONS = "-c statement_timeout=30000 -c lock_timeout=8000 -c idle_in_transaction_session_timeout=60000"


class Database:
    """One service's database. Connections are opened when needed, up to `pool_size`, and kept.

    A connection that died (a restart of Postgres) is found out by the first statement of a transaction, which is then
    begun again on a new one: no ping before each use, no manual action after.
    """

    def __init__(self, url: str, *, application_name: str, pool_size: int = 10) -> None:
        self._pool_size = pool_size
        self._prepared: WeakKeyDictionary[Driver, set[str]] = WeakKeyDictionary()
        # AUTOCOMMIT means only that the driver does not say BEGIN: it goes in one round trip with the tenant instead.
        self._engine = create_async_engine(
            sqlalchemy_url(url),
            isolation_level="AUTOCOMMIT",
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_POOL_TIMEOUT_S,
            pool_recycle=_RECYCLE_S,
            pool_use_lifo=True,
            # A transaction rolls back by itself, and `read` leaves none: no third time when the connection comes back.
            pool_reset_on_return=None,
            connect_args={
                "application_name": application_name,
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "options": _SESSION_OPTIONS,
            },
        )

    @asynccontextmanager
    async def transaction(self, organization_id: UUID | None) -> AsyncGenerator[AsyncSession]:
        """A session in one transaction, set to an organization; commits when the block ends well, else rolls back.

        With None no row of a table under row-level security is visible. Raises Unavailable DEPENDENCY_UNAVAILABLE when the
        database does not answer, ResourceExhausted when all connections stay busy, InvalidArgument when a value cannot be
        stored. IntegrityError is left to the repository, which knows what it means.
        """
        session = AsyncSession(self._engine, expire_on_commit=False)
        try:
            with _Translated():
                driver = await self._begin(session, organization_id)
                yield session
                await _commit(session, driver)
        except BaseException:
            # Even when cancelled: the connection must go back to the pool rolled back.
            await asyncio.shield(asyncio.ensure_future(_discard(session)))
            raise
        await session.close()

    async def _begin(self, session: AsyncSession, organization_id: UUID | None) -> Driver:
        """Begins on the driver itself: SQLAlchemy would take three times as long to say the same."""
        tenant = "" if organization_id is None else str(UUID(int=organization_id.int))
        begin = f"BEGIN; SELECT set_config('hearth.organization_id', '{tenant}', true)"
        for attempt in range(self._pool_size + 1):
            connection = await session.connection()
            driver = cast(Driver, (await connection.get_raw_connection()).driver_connection)
            try:
                await driver.execute(begin.encode())
            except psycopg.OperationalError as error:
                if not driver.closed or attempt == self._pool_size:
                    raise
                # It died while it lay in the pool, as the others there may have: take the next.
                await connection.invalidate(error)
                await session.rollback()
            else:
                return driver
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def read(
        self, organization_id: UUID | None, statements: LiteralString, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The rows of the last of some SQL statements, run in one transaction and one round trip, as an organization.

        For what is read at every call: a fifth of the time of `transaction`. Values are bound as `%(name)s`, statements planned
        once a connection (chassis.readings). Only for reading: on a connection that died in the pool it is done again. Raises
        like `transaction`.
        """
        return await self._round_trip(organization_id, reading(statements), values)

    async def run(
        self, organization_id: UUID | None, statements: LiteralString, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Like `read`, for a change that may be made twice without harm; its rows, if it returns any. Planned each time."""
        return await self._round_trip(organization_id, statements.encode(), values)

    async def _round_trip(
        self, organization_id: UUID | None, asked: Reading | bytes, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        text = asked if isinstance(asked, bytes) else asked.execute
        query = b"SET LOCAL hearth.organization_id = '%b';" % _tenant(organization_id) + text
        with _Translated():
            for attempt in range(self._pool_size + 1):
                pooled = await self._engine.raw_connection()
                driver = cast(Driver, pooled.driver_connection)
                try:
                    if isinstance(asked, Reading):
                        await self._prepare(driver, asked)
                    return await _last_rows(driver, query, values)
                except psycopg.errors.InvalidSqlStatementName:
                    # The driver forgets all statements with a rollback (DEALLOCATE ALL), these included.
                    self._prepared.pop(driver, None)
                    if attempt == self._pool_size:
                        raise
                except psycopg.OperationalError:
                    if not driver.closed or attempt == self._pool_size:
                        raise
                finally:
                    _give_back(pooled, driver)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _prepare(self, driver: Driver, asked: Reading) -> None:
        known = self._prepared.setdefault(driver, set())
        for handle, statement in asked.prepare.items():
            if handle not in known:
                # A handle stands for one text: what was prepared by a call that was cancelled since is the same.
                with suppress(psycopg.errors.DuplicatePreparedStatement):
                    await driver.execute(statement)
                known.add(handle)

    async def ping(self) -> None:
        """Raises Unavailable when the database does not answer."""
        async with self.transaction(None) as session:
            await session.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()


def _tenant(organization_id: UUID | None) -> bytes:
    return b"" if organization_id is None else str(UUID(int=organization_id.int)).encode()


async def _last_rows(driver: Driver, query: bytes, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    async with psycopg.AsyncClientCursor(driver, row_factory=dict_row) as cursor:
        await cursor.execute(query, values)
        while cursor.nextset():
            pass
        return await cursor.fetchall() if cursor.description else []


def _give_back(pooled: PoolProxiedConnection, driver: Driver) -> None:
    """Returns a connection. One that is dead or still in a transaction is replaced before anyone uses it again."""
    if driver.info.transaction_status is not TransactionStatus.IDLE:
        pooled.invalidate(soft=True)
    pooled.close()


async def _commit(session: AsyncSession, driver: Driver) -> None:
    if session.new or session.dirty or session.deleted:
        await session.flush()
    if driver.info.transaction_status is TransactionStatus.INERROR:
        # COMMIT would roll back and say nothing.
        raise RuntimeError("a statement of this transaction failed, and nobody left the transaction")
    pending = audit.owed()
    if pending is None:
        await driver.commit()
    else:
        await _commit_with(driver, pending)


async def _commit_with(driver: Driver, pending: audit.PendingRecord) -> None:
    """Commits, in one round trip, with the record of the call if the transaction has written anything."""
    async with psycopg.AsyncClientCursor(driver) as cursor:
        await cursor.execute(COMMIT_WITH_RECORD.encode(), values_of(pending.record(audit.OK)))
        cursor.nextset()
        if cursor.rowcount == 1:
            pending.kept()


class _Translated:
    """Turns what the driver raises into what the API answers; leaves IntegrityError alone."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, stack: object) -> None:
        answer = _translate(error)
        if answer is not None:
            raise answer from error


def _translate(error: BaseException | None) -> DomainError | None:
    if isinstance(error, exc.TimeoutError):
        return ResourceExhausted("the server is busy", reason="RATE_LIMITED", retry_after_s=1.0)
    if isinstance(error, exc.DataError | psycopg.DataError):
        return InvalidArgument("a value cannot be stored", reason="VALIDATION_FAILED")
    if isinstance(error, exc.DBAPIError):
        lost, cause = error.connection_invalidated, error.orig
    elif isinstance(error, psycopg.Error):
        lost, cause = False, error
    else:
        return None
    state = getattr(cause, "sqlstate", None) or ""
    # 08 connection, 53 resources, 57P shutdown or start-up, 55P03 lock and 57014 statement timeout, 40 serialization.
    retryable = state[:2] in ("08", "40", "53") or state[:3] == "57P" or state in ("55P03", "57014")
    if retryable or lost or (isinstance(cause, psycopg.OperationalError) and not state):
        _log.warning("database does not answer", extra={"sqlstate": state, "error": type(cause).__name__})
        return Unavailable("the database does not answer", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0)
    return None


async def _discard(session: AsyncSession) -> None:
    try:
        await session.close()
    except exc.DBAPIError:
        await session.invalidate()
