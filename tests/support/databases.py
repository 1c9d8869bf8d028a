"""Databases for integration tests: a real PostgreSQL, and in it a fresh database for whoever asks, with roles as in production.

HEARTH_TEST_POSTGRES_URL (a superuser's URL) uses a server that runs already; otherwise one is started.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from chassis.migrations import migrate

_SERVICE = "test_service"
_OWNER = "test_owner"


@dataclass(frozen=True, slots=True)
class FreshDatabase:
    """URLs of one database: as the service, as the owner, as the superuser."""

    url: str
    owner_url: str
    superuser_url: str


class Databases:
    """Makes migrated databases; each after the first is a copy, which takes a tenth of a second."""

    def __init__(self, superuser_url: str) -> None:
        self._superuser_url = superuser_url
        self._password = secrets.token_hex(16)
        self._templates: dict[Path, str] = {}
        self._made: list[str] = []
        for role in (_SERVICE, _OWNER):
            if not self._do("SELECT 1 FROM pg_roles WHERE rolname = {}", sql.Literal(role)):
                self._do("CREATE ROLE {}", sql.Identifier(role))
            self._do(
                "ALTER ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD {}",
                sql.Identifier(role),
                sql.Literal(self._password),
            )

    def fresh(self, migrations: Path) -> FreshDatabase:
        """A database at the newest revision of a service's migrations, with nothing in it."""
        template = self._templates.get(migrations)
        if template is None:
            template = self._templates[migrations] = self._empty()
            migrate(self._url(_OWNER, template), migrations)
        name = self._name()
        self._do(
            "CREATE DATABASE {} TEMPLATE {} OWNER {}",
            sql.Identifier(name),
            sql.Identifier(template),
            sql.Identifier(_OWNER),
        )
        return self._database(name)

    def empty(self) -> FreshDatabase:
        """A database that nobody has migrated."""
        return self._database(self._empty())

    def drop_all(self) -> None:
        """Removes what was made."""
        for name in self._made:
            self._do("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql.Identifier(name))

    def _empty(self) -> str:
        name = self._name()
        self._do("CREATE DATABASE {} OWNER {}", sql.Identifier(name), sql.Identifier(_OWNER))
        with psycopg.connect(self._url(_OWNER, name), autocommit=True) as connection:
            connection.execute(f"GRANT USAGE ON SCHEMA public TO {_SERVICE}")
            rights = "SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE ON SEQUENCES"
            for right in rights:
                connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT {right} TO {_SERVICE}".encode())
        return name

    def _database(self, name: str) -> FreshDatabase:
        superuser = conninfo_to_dict(self._superuser_url)
        as_superuser = f"postgresql://{superuser['user']}:{superuser['password']}@{self._address()}/{name}"
        return FreshDatabase(self._url(_SERVICE, name), self._url(_OWNER, name), as_superuser)

    def _name(self) -> str:
        self._made.append(f"test_{secrets.token_hex(6)}")
        return self._made[-1]

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{self._password}@{self._address()}/{database}"

    def _address(self) -> str:
        server = conninfo_to_dict(self._superuser_url)
        return f"{server['host']}:{server.get('port', 5432)}"

    def _do(self, statement: LiteralString, *parts: sql.Composable) -> bool:
        """Whether it returned a row."""
        with psycopg.connect(self._superuser_url, autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement).format(*parts))
            return cursor.description is not None and cursor.fetchone() is not None


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Fresh databases, for the session."""
    given = os.environ.get("HEARTH_TEST_POSTGRES_URL", "")
    if given:
        yield from _with(given)
        return
    # Starting a server needs the whole of deploy/local; a server that is given does not.
    from deploy.local import Stack

    with Stack(only=("postgres",)) as stack:
        yield from _with(stack.superuser_url())


def _with(superuser_url: str) -> Iterator[Databases]:
    made = Databases(superuser_url)
    try:
        yield made
    finally:
        made.drop_all()
