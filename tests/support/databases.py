"""Databases for integration tests: a real PostgreSQL, and in it a fresh database for whoever asks, with roles as in production.

HEARTH_TEST_POSTGRES_URL (a superuser's URL) uses a server that runs already; otherwise one is started.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from chassis.migrations import migrate
from deploy.local import Stack


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
        # Roles of our own: others may test on the same server.
        self._service = f"test_service_{secrets.token_hex(4)}"
        self._owner = f"test_owner_{secrets.token_hex(4)}"
        for role in (self._service, self._owner):
            rights = "CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD {}"
            self._do(rights, sql.Identifier(role), sql.Literal(self._password))

    def fresh(self, migrations: Path) -> FreshDatabase:
        """A database at the newest revision of a service's migrations, with nothing in it."""
        template = self._templates.get(migrations)
        if template is None:
            template = self._templates[migrations] = self._empty()
            migrate(self._url(self._owner, template), migrations)
        name = self._name()
        self._do(
            "CREATE DATABASE {} TEMPLATE {} OWNER {}",
            sql.Identifier(name),
            sql.Identifier(template),
            sql.Identifier(self._owner),
        )
        return self._database(name)

    def empty(self) -> FreshDatabase:
        """A database that nobody has migrated."""
        return self._database(self._empty())

    def before(self, migrations: Path, revision: str, folder: Path) -> FreshDatabase:
        """A database as it was before a revision; `folder` is for copies of the older ones. `migrate` brings it up to date."""
        versions = folder / "versions"
        versions.mkdir()
        for older in sorted((migrations / "versions").glob("*.py")):
            if older.name < revision:
                shutil.copy(older, versions)
        database = self.empty()
        migrate(database.owner_url, folder)
        return database

    def drop_all(self) -> None:
        """Removes what was made."""
        for name in self._made:
            self._do("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql.Identifier(name))
        for role in (self._service, self._owner):
            self._do("DROP ROLE {}", sql.Identifier(role))

    def _empty(self) -> str:
        name = self._name()
        self._do("CREATE DATABASE {} OWNER {}", sql.Identifier(name), sql.Identifier(self._owner))
        with psycopg.connect(self._url(self._owner, name), autocommit=True) as connection:
            connection.execute(f"GRANT USAGE ON SCHEMA public TO {self._service}".encode())
            rights = "SELECT, INSERT, UPDATE, DELETE ON TABLES", "USAGE ON SEQUENCES"
            for right in rights:
                connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT {right} TO {self._service}".encode())
        return name

    def _database(self, name: str) -> FreshDatabase:
        superuser = conninfo_to_dict(self._superuser_url)
        as_superuser = f"postgresql://{superuser['user']}:{superuser['password']}@{self._address()}/{name}"
        return FreshDatabase(self._url(self._service, name), self._url(self._owner, name), as_superuser)

    def _name(self) -> str:
        self._made.append(f"test_{secrets.token_hex(6)}")
        return self._made[-1]

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{self._password}@{self._address()}/{database}"

    def _address(self) -> str:
        server = conninfo_to_dict(self._superuser_url)
        return f"{server['host']}:{server.get('port', 5432)}"

    def _do(self, statement: LiteralString, *parts: sql.Composable) -> None:
        with psycopg.connect(self._superuser_url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*parts))


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Fresh databases, for the session."""
    given = os.environ.get("HEARTH_TEST_POSTGRES_URL", "")
    if given:
        made = Databases(given)
        yield made
        made.drop_all()
    else:
        # They go with their server.
        with Stack(only=("postgres",)) as stack:
            yield Databases(stack.superuser_url())
