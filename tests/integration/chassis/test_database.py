"""Transactions on a real PostgreSQL: tenancy by the database itself, all or nothing, and restarts that heal."""

import asyncio
import uuid
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from chassis import ids
from chassis.database import Database
from chassis.errors import InvalidArgument, ResourceExhausted, Unavailable
from chassis.readings import reading
from tests.support.databases import FreshDatabase

_INSERT = sa.text("INSERT INTO things VALUES (:id, :organization_id, :name)")
_COUNT = sa.text("SELECT count(*) FROM things")


async def _insert(database: Database, tenant: uuid.UUID | None, owner: uuid.UUID, name: str) -> None:
    async with database.transaction(tenant) as session:
        await session.execute(_INSERT, {"id": ids.new(), "organization_id": owner, "name": name})


async def _count(database: Database, tenant: uuid.UUID | None) -> int:
    async with database.transaction(tenant) as session:
        return int((await session.execute(_COUNT)).scalar_one())


async def test_rows_are_seen_by_their_organization_only(database: Database) -> None:
    one, other = ids.new(), ids.new()
    await _insert(database, one, one, "a")
    assert [await _count(database, tenant) for tenant in (one, other, None)] == [1, 0, 0]


@pytest.mark.parametrize("tenant_is_other", [True, False])
async def test_a_row_of_another_organization_cannot_be_written(database: Database, tenant_is_other: bool) -> None:
    one, other = ids.new(), ids.new()
    with pytest.raises(exc.ProgrammingError, match="row-level security"):
        await _insert(database, other if tenant_is_other else None, one, "a")


async def test_another_organization_s_row_cannot_be_changed_moved_or_deleted(database: Database) -> None:
    one, other = ids.new(), ids.new()
    await _insert(database, one, one, "a")
    async with database.transaction(other) as session:
        for statement in ("UPDATE things SET name = 'b'", "DELETE FROM things"):
            result: Any = await session.execute(sa.text(statement))
            assert result.rowcount == 0
    with pytest.raises(exc.ProgrammingError, match="row-level security"):
        async with database.transaction(one) as session:
            await session.execute(sa.text("UPDATE things SET organization_id = :o"), {"o": other})


async def test_even_the_owner_sees_nothing_without_a_tenant(database: Database, fresh: FreshDatabase) -> None:
    one = ids.new()
    await _insert(database, one, one, "a")
    with psycopg.connect(fresh.owner_url) as connection:
        row = connection.execute("SELECT count(*) FROM things").fetchone()
    assert row == (0,)


async def test_the_service_owns_nothing_and_cannot_bypass(fresh: FreshDatabase) -> None:
    with psycopg.connect(fresh.url) as connection:
        owned = connection.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole").fetchone()
        rights = connection.execute(
            "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    assert (owned, rights) == ((0,), (False, False))


async def test_the_tenant_does_not_stay_on_the_connection(fresh: FreshDatabase) -> None:
    database = Database(fresh.url, application_name="one", pool_size=1)
    one = ids.new()
    await _insert(database, one, one, "a")
    assert await _count(database, None) == 0
    await database.close()


async def test_an_error_leaves_nothing(database: Database) -> None:
    one = ids.new()

    async def fail() -> None:
        async with database.transaction(one) as session:
            await session.execute(_INSERT, {"id": ids.new(), "organization_id": one, "name": "a"})
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await _count(database, one) == 0


async def test_a_failed_statement_that_nobody_left_is_not_committed_silently(database: Database) -> None:
    one = ids.new()
    await _insert(database, one, one, "taken")

    async def swallow() -> None:
        async with database.transaction(one) as session:
            with suppress(exc.IntegrityError):
                await session.execute(_INSERT, {"id": ids.new(), "organization_id": one, "name": "taken"})

    with pytest.raises(RuntimeError, match="failed"):
        await swallow()
    assert await _count(database, one) == 1


async def test_a_savepoint_leaves_a_failed_statement(database: Database) -> None:
    one = ids.new()
    async with database.transaction(one) as session:
        await session.execute(_INSERT, {"id": ids.new(), "organization_id": one, "name": "taken"})
        with pytest.raises(exc.IntegrityError):
            async with session.begin_nested():
                await session.execute(_INSERT, {"id": ids.new(), "organization_id": one, "name": "taken"})
        await session.execute(_INSERT, {"id": ids.new(), "organization_id": one, "name": "free"})
    assert await _count(database, one) == 2


async def test_cancelling_rolls_back_and_gives_the_connection_back(fresh: FreshDatabase) -> None:
    database = Database(fresh.url, application_name="one", pool_size=1)
    one = ids.new()
    inserted = asyncio.Event()

    async def work() -> None:
        async with database.transaction(one) as session:
            await session.execute(_INSERT, {"id": ids.new(), "organization_id": one, "name": "a"})
            inserted.set()
            await session.execute(sa.text("SELECT pg_sleep(30)"))

    task = asyncio.create_task(work())
    await asyncio.wait_for(inserted.wait(), 10)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert await asyncio.wait_for(_count(database, one), 10) == 0
    await database.close()


async def test_dead_connections_are_replaced_without_an_error(fresh: FreshDatabase) -> None:
    database = Database(fresh.url, application_name="heals", pool_size=3)
    await asyncio.gather(*(_slowly(database) for _ in range(3)))
    with psycopg.connect(fresh.superuser_url, autocommit=True) as connection:
        killed = connection.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'heals'"
        ).fetchone()
    assert killed == (3,)
    assert await _count(database, None) == 0
    assert await asyncio.gather(*(_count(database, None) for _ in range(6))) == [0] * 6
    await database.close()


async def _slowly(database: Database) -> None:
    async with database.transaction(None) as session:
        await session.execute(sa.text("SELECT pg_sleep(0.2)"))


async def test_a_connection_that_dies_in_the_middle_is_unavailable(database: Database, fresh: FreshDatabase) -> None:

    async def die() -> None:
        async with database.transaction(None) as session:
            pid = (await session.execute(sa.text("SELECT pg_backend_pid()"))).scalar_one()
            with psycopg.connect(fresh.superuser_url, autocommit=True) as connection:
                connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            await session.execute(_COUNT)

    with pytest.raises(Unavailable) as raised:
        await die()
    assert raised.value.reason == "DEPENDENCY_UNAVAILABLE"
    assert await _count(database, None) == 0


async def test_no_database_is_unavailable() -> None:
    database = Database("postgresql://nobody:x@127.0.0.1:1/none", application_name="x")
    with pytest.raises(Unavailable):
        await database.ping()
    await database.close()


async def test_all_connections_busy_is_resource_exhausted(
    fresh: FreshDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chassis.database._POOL_TIMEOUT_S", 0.2)
    database = Database(fresh.url, application_name="one", pool_size=1)
    async with database.transaction(None):
        with pytest.raises(ResourceExhausted) as raised:
            await database.ping()
    assert raised.value.retry_after_s
    await database.ping()
    await database.close()


async def test_a_value_that_cannot_be_stored_is_the_caller_s_fault(database: Database) -> None:
    one = ids.new()
    with pytest.raises(InvalidArgument):
        await _insert(database, one, one, "nul \0")
    assert await _count(database, one) == 0


async def test_a_lock_that_is_never_free_is_unavailable(database: Database) -> None:
    one = ids.new()
    await _insert(database, one, one, "a")

    async def wait() -> None:
        async with database.transaction(one) as waiting:
            await waiting.execute(sa.text("SET LOCAL lock_timeout = '100ms'"))
            await waiting.execute(sa.text("SELECT 1 FROM things FOR UPDATE"))

    async with database.transaction(one) as session:
        await session.execute(sa.text("SELECT 1 FROM things FOR UPDATE"))
        with pytest.raises(Unavailable):
            await wait()


async def _names(database: Database, tenant: uuid.UUID | None) -> list[str]:
    rows = await database.read(tenant, "SELECT name FROM things WHERE name <> %(not)s ORDER BY name", {"not": "x"})
    return [row["name"] for row in rows]


async def test_reading_sees_one_organization_too(database: Database) -> None:
    one, other = ids.new(), ids.new()
    await _insert(database, one, one, "a")
    await _insert(database, one, one, "b'; DROP TABLE things; --")
    assert await _names(database, one) == ["a", "b'; DROP TABLE things; --"]
    assert await _names(database, other) == []
    assert await _names(database, None) == []


async def test_a_statement_may_choose_the_tenant_of_the_next(database: Database) -> None:
    one = ids.new()
    await _insert(database, one, one, "a")
    statements = "SELECT set_config('hearth.organization_id', %(id)s, true); SELECT name FROM things"
    assert await database.read(None, statements, {"id": str(one)}) == [{"name": "a"}]
    assert await _names(database, None) == []


async def test_readings_may_share_a_statement(fresh: FreshDatabase) -> None:
    database = Database(fresh.url, application_name="one", pool_size=1)
    for number in (1, 2, 1):
        statements = ("SELECT 'shared'; SELECT 1 AS n", "SELECT 'shared'; SELECT 2 AS n")[number - 1]
        assert await database.read(None, statements, {}) == [{"n": number}]
    await database.close()


async def test_what_is_read_is_bound_and_not_pasted(database: Database) -> None:
    hostile = "'; DELETE FROM things; SELECT '\\"
    rows = await database.read(None, "SELECT %(value)s::text AS value", {"value": hostile})
    assert rows == [{"value": hostile}]


async def test_reading_goes_on_after_the_driver_has_forgotten_its_statements(fresh: FreshDatabase) -> None:
    database, one = Database(fresh.url, application_name="reads", pool_size=1), ids.new()
    assert await _names(database, one) == []
    for number in range(10):
        # So often that the driver prepares the statement, whereupon a rollback makes it drop all that are.
        await _insert(database, one, one, f"n{number}")
    with suppress(LookupError):
        async with database.transaction(one) as session:
            await session.execute(_COUNT)
            raise LookupError
    assert len(await _names(database, one)) == 10
    await database.close()


async def test_a_reading_that_was_cut_short_can_be_read_again(fresh: FreshDatabase) -> None:
    database = Database(fresh.url, application_name="reads", pool_size=1)
    # As a call leaves it that was cancelled after the statement was prepared and before that was noted.
    for statement in reading("SELECT 1 AS one").prepare.values():
        async with database.transaction(None) as session:
            await session.execute(sa.text(statement.decode()))
    assert await database.read(None, "SELECT 1 AS one", {}) == [{"one": 1}]
    await database.close()


async def test_reading_on_dead_connections_heals(fresh: FreshDatabase) -> None:
    database = Database(fresh.url, application_name="reads", pool_size=3)
    await asyncio.gather(*(database.read(None, "SELECT pg_sleep(0.2)", {}) for _ in range(3)))
    with psycopg.connect(fresh.superuser_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'reads'"
        )
    assert await _names(database, None) == []
    assert await asyncio.gather(*(_count(database, None) for _ in range(4))) == [0] * 4
    await database.close()


async def test_a_failed_or_cancelled_read_leaves_a_clean_connection(fresh: FreshDatabase) -> None:
    database = Database(fresh.url, application_name="one", pool_size=1)
    one = ids.new()
    await _insert(database, one, one, "a")
    with pytest.raises(InvalidArgument):
        await database.read(one, "SELECT %(value)s::uuid", {"value": "nonsense"})
    reading = asyncio.create_task(database.read(one, "SELECT pg_sleep(30)", {}))
    await asyncio.sleep(0.2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(reading, 10)
    assert await asyncio.wait_for(_names(database, None), 10) == []
    assert await asyncio.wait_for(_count(database, one), 10) == 1
    await database.close()


async def test_reading_without_a_database_is_unavailable() -> None:
    database = Database("postgresql://nobody:x@127.0.0.1:1/none", application_name="x")
    with pytest.raises(Unavailable):
        await database.read(None, "SELECT 1", {})
    await database.close()
