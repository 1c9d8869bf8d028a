"""Connections for the hot path: each use is one simple-protocol round trip, which is one implicit transaction.

Values are bound on the client, so that the tenant setting and all statements of a commit travel together: half the cost of
BEGIN, set_config, statement, COMMIT one by one (measured), and nothing is left behind on the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from agent_svc.repositories.prepared import Prepared
from chassis.errors import InvalidArgument, ResourceExhausted, Unavailable
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

Row = tuple[Any, ...]

_TENANT = "SET LOCAL hearth.organization_id = %(organization_text)s"
# The plans are generic and few: every statement reaches its rows by an index, whatever the statistics say on the first day.
_OPTIONS = (
    "-c statement_timeout=20000 -c lock_timeout=8000 -c idle_in_transaction_session_timeout=30000 "
    "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off"
)
_POOL_TIMEOUT_S = 5.0


class LogPool:
    """A small pool of autocommit connections with client-side binding."""

    def __init__(self, url: str, *, application_name: str, size: int) -> None:
        self._prepared: WeakKeyDictionary[psycopg.AsyncConnection[Row], set[str]] = WeakKeyDictionary()
        self._checking: asyncio.Task[None] | None = None
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=size,
            open=False,
            timeout=_POOL_TIMEOUT_S,
            kwargs={
                "autocommit": True,
                "cursor_factory": psycopg.AsyncClientCursor,
                "application_name": application_name,
                "connect_timeout": 5,
                "options": _OPTIONS,
            },
        )

    async def open(self) -> None:
        """Starts connecting; does not wait for the database."""
        await self._pool.open()

    async def close(self) -> None:
        """Closes all connections."""
        await end_task(self._checking)
        await self._pool.close()

    async def tenant(
        self, organization_id: UUID, statements: Sequence[Prepared], values: Mapping[str, Any]
    ) -> list[list[Row]]:
        """Runs statements for an organization in one transaction; the rows of each, in order.

        Raises Unavailable, ResourceExhausted, InvalidArgument; psycopg.IntegrityError is left to the caller.
        """
        bound = {**values, "organization": organization_id, "organization_text": str(organization_id)}
        return (await self._use([_TENANT], statements, bound))[1:]

    async def run(self, statements: Sequence[Prepared], values: Mapping[str, Any]) -> list[list[Row]]:
        """The same without an organization: sees only what has no row-level security."""
        return await self._use([], statements, values)

    async def _use(
        self, first: list[str], statements: Sequence[Prepared], values: Mapping[str, Any]
    ) -> list[list[Row]]:
        try:
            connection = await self._pool.getconn()
        except PoolTimeout as error:
            raise ResourceExhausted("the server is busy", reason="RATE_LIMITED", retry_after_s=1.0) from error
        try:
            await self._prepare(connection, statements)
            forgotten = [f"DEALLOCATE {statement.name}" for statement in statements if not statement.keep]
            text = ";".join([*first, *(statement.execute for statement in statements), *forgotten])
            results = await _results(connection, text, values)
            return results[: len(first) + len(statements)]
        except psycopg.Error as error:
            if connection.broken:
                self._check_others()
            raise _translated(error) from error
        finally:
            await self._pool.putconn(connection)

    def _check_others(self) -> None:
        """One connection is dead, so its neighbours probably are: found out now instead of by the next callers."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._pool.check())

    async def _prepare(self, connection: psycopg.AsyncConnection[Row], statements: Sequence[Prepared]) -> None:
        """What this connection has not planned yet; on all but its first uses that is nothing."""
        prepared = self._prepared.setdefault(connection, set())
        for statement in statements:
            if statement.name in prepared:
                continue
            await connection.execute(statement.prepare.encode())
            if statement.keep:
                prepared.add(statement.name)


async def _results(
    connection: psycopg.AsyncConnection[Row], statements: str, values: Mapping[str, Any]
) -> list[list[Row]]:
    cursor = await connection.execute(statements.encode(), values)
    results: list[list[Row]] = []
    more: bool | None = True
    while more:
        returned = cursor.pgresult
        results.append(await cursor.fetchall() if returned is not None and returned.nfields else [])
        more = cursor.nextset()
    return results


def _translated(error: psycopg.Error) -> Exception:
    if isinstance(error, psycopg.IntegrityError):
        return error
    if isinstance(error, psycopg.DataError):
        return InvalidArgument("a value cannot be stored", reason="VALIDATION_FAILED")
    state = error.sqlstate or ""
    lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and not state
    if lost or state[:2] in ("08", "40", "53") or state[:3] == "57P" or state in ("55P03", "57014"):
        _log.warning("database does not answer", extra={"sqlstate": state, "error": type(error).__name__})
        return Unavailable("the database does not answer", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0)
    return error
