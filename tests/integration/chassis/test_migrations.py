"""Migrations: once, whole, by whoever comes first."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import exc

from chassis.migrations import enable_row_level_security, migrate
from tests.integration.chassis.conftest import MIGRATIONS
from tests.support.databases import Databases


def _tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {str(row[0]) for row in rows}


def test_several_at_once_migrate_once(databases: Databases) -> None:
    database = databases.empty()
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate, database.owner_url, MIGRATIONS) for _ in range(4)]:
            done.result(timeout=60)
    assert _tables(database.owner_url) == {"audit_outbox", "things", "request_ids", "alembic_version"}


def test_a_broken_revision_leaves_nothing(databases: Databases, tmp_path: Path) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    (versions / "0001_broken.py").write_text(
        "from alembic import op\nrevision, down_revision = '0001', None\n"
        "def upgrade():\n    op.execute('CREATE TABLE half (id int)')\n    op.execute('SELECT nonsense')\n"
    )
    database = databases.empty()
    with pytest.raises(exc.ProgrammingError):
        migrate(database.owner_url, tmp_path)
    assert _tables(database.owner_url) == set()


def test_a_path_with_signs_that_mean_something_elsewhere(databases: Databases, tmp_path: Path) -> None:
    folder = tmp_path / "50%(here)s and: more"
    (folder / "versions").mkdir(parents=True)
    (folder / "versions" / "0001_x.py").write_text(
        "from alembic import op\nrevision, down_revision = '0001', None\ndef upgrade():\n    op.execute('CREATE TABLE x (id int)')\n"
    )
    database = databases.empty()
    migrate(database.owner_url, folder)
    assert "x" in _tables(database.owner_url)


def test_only_plain_table_names() -> None:
    class Nothing:
        def execute(self, sqltext: object, /) -> None:
            raise AssertionError

        def create_table(self, table_name: str, *columns: object) -> None:
            raise AssertionError

        def create_index(self, index_name: str, table_name: str, columns: list[str], /) -> None:
            raise AssertionError

    with pytest.raises(ValueError, match="plain"):
        enable_row_level_security(Nothing(), "things; DROP TABLE x")
