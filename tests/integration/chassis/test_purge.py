"""Removing an organization from a database: every table there is, under row-level security, and nothing of its neighbours."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from chassis import ids
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.migrations import Operations, enable_row_level_security
from chassis.purge import Purger
from tests.support.databases import Databases, FreshDatabase
from tests.support.waiting import until

ROWS = 2_500
# A parent and two generations of children, by names in an order in which they cannot be emptied; one table that the organization's rows
# are not found in by an index; one that background work shares, without row-level security; one that is kept; one of nobody.
_SCHEMA = """
CREATE TABLE a_parents (id integer PRIMARY KEY, organization_id uuid NOT NULL);
CREATE INDEX ON a_parents (organization_id);
CREATE TABLE b_children (id integer PRIMARY KEY, organization_id uuid NOT NULL, parent integer NOT NULL REFERENCES a_parents);
CREATE INDEX ON b_children (organization_id);
CREATE TABLE c_grandchildren (organization_id uuid NOT NULL, child integer NOT NULL REFERENCES b_children);
CREATE TABLE log (id integer PRIMARY KEY, organization_id uuid NOT NULL, text text NOT NULL);
CREATE TABLE shared (organization_id uuid NOT NULL, id integer NOT NULL, PRIMARY KEY (organization_id, id));
CREATE TABLE kept (organization_id uuid PRIMARY KEY);
CREATE TABLE of_nobody (id integer PRIMARY KEY);
"""
_GUARDED = ("a_parents", "b_children", "c_grandchildren", "log", "kept")
_TABLES = (*_GUARDED, "shared")


class _Owner:
    """The part of Alembic's operations that a policy needs."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, sqltext: str) -> None:
        self._connection.execute(sqltext.encode())


@pytest.fixture
def fresh(databases: Databases) -> FreshDatabase:
    made = databases.empty()
    with psycopg.connect(made.owner_url, autocommit=True) as owner:
        owner.execute(_SCHEMA)
        for table in _GUARDED:
            operations: Operations = _Owner(owner)  # pyright: ignore[reportAssignmentType]
            enable_row_level_security(operations, table)
    return made


@pytest.fixture
def superuser(fresh: FreshDatabase) -> Iterator[psycopg.Connection]:
    with psycopg.connect(fresh.superuser_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def database(fresh: FreshDatabase) -> AsyncIterator[Database]:
    made = Database(fresh.url, application_name="test", pool_size=2)
    yield made
    await made.close()


def _fill(superuser: psycopg.Connection, organization_id: UUID, first: int) -> None:
    values = {"organization": organization_id, "first": first, "last": first + ROWS - 1}
    for statement in (
        b"INSERT INTO a_parents SELECT n, %(organization)s::uuid FROM generate_series(%(first)s::int, %(last)s::int) AS n",
        b"INSERT INTO b_children SELECT n, %(organization)s::uuid, n FROM generate_series(%(first)s::int, %(last)s::int) AS n",
        b"INSERT INTO c_grandchildren SELECT %(organization)s::uuid, n FROM generate_series(%(first)s::int, %(last)s::int) AS n",
        # Over several areas of pages.
        b"INSERT INTO log SELECT n, %(organization)s::uuid, repeat('x', 2000) FROM generate_series(%(first)s::int, %(last)s::int) AS n",
        b"INSERT INTO shared SELECT %(organization)s::uuid, n FROM generate_series(%(first)s::int, %(last)s::int) AS n",
        b"INSERT INTO kept VALUES (%(organization)s)",
    ):
        superuser.execute(statement, values)


def _left(superuser: psycopg.Connection, organization_id: UUID) -> dict[str, int]:
    counts: dict[str, int] = {}
    for table in _TABLES:
        query = sql.SQL("SELECT count(*) FROM {} WHERE organization_id = %s").format(sql.Identifier(table))
        row = superuser.execute(query, (organization_id,)).fetchone()
        counts[table] = row[0] if row else 0
    return counts


@dataclass
class Source:
    """Who says what must go."""

    organizations: list[UUID]
    reports: dict[UUID, Mapping[str, int]] = field(default_factory=dict[UUID, Mapping[str, int]])
    down: int = 0

    async def due(self) -> Sequence[UUID]:
        if self.down:
            self.down -= 1
            raise Unavailable("away", reason="DEPENDENCY_UNAVAILABLE")
        return [one for one in self.organizations if one not in self.reports]

    async def report(self, organization_id: UUID, removed: Mapping[str, int]) -> None:
        self.reports[organization_id] = removed


async def test_everything_goes_but_what_is_kept_and_the_neighbour(
    database: Database, superuser: psycopg.Connection
) -> None:
    gone, neighbour = ids.new(), ids.new()
    _fill(superuser, gone, 0)
    _fill(superuser, neighbour, ROWS)
    before = _left(superuser, neighbour)
    vectors = {gone: 7}

    async def remove(organization_id: UUID) -> int:
        return vectors.pop(organization_id, 0)

    source = Source([gone], down=2)
    purger = Purger(source, database, kept=("kept",), others={"vectors": remove}, interval_s=0.05)
    await purger.start()
    try:
        await until(lambda: bool(source.reports))
    finally:
        await purger.stop()
    assert _left(superuser, gone) == {**dict.fromkeys(_TABLES, 0), "kept": 1}
    assert _left(superuser, neighbour) == before
    emptied = ("a_parents", "b_children", "c_grandchildren", "log", "shared")
    assert source.reports == {gone: {**dict.fromkeys(emptied, ROWS), "vectors": 7}}


async def test_a_purge_that_was_cut_short_goes_on(database: Database, superuser: psycopg.Connection) -> None:
    gone = ids.new()
    _fill(superuser, gone, 0)
    source = Source([gone])
    first = Purger(source, database, interval_s=0.05)
    await first.start()
    await until(lambda: not _left(superuser, gone)["c_grandchildren"], every_s=0.005)
    await first.stop()
    assert not source.reports
    assert any(_left(superuser, gone).values()), "it was over before it was cut short"
    second = Purger(source, database, interval_s=0.05)
    await second.start()
    try:
        await until(lambda: bool(source.reports))
    finally:
        await second.stop()
    assert not any(_left(superuser, gone).values())


async def test_a_table_added_later_is_emptied_too(
    database: Database, superuser: psycopg.Connection, fresh: FreshDatabase
) -> None:
    gone = ids.new()
    with psycopg.connect(fresh.owner_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE later (organization_id uuid NOT NULL, text text)")
    superuser.execute("INSERT INTO later VALUES (%s, 'x')", (gone,))
    assert await Purger(Source([]), database).purge(gone) == {"later": 1}
    assert await Purger(Source([]), database).purge(gone) == {}
