"""Migrations: what every service's schema changes need. They run as the owner role, never as the service's own."""

import logging
import re
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

_log = logging.getLogger(__name__)

# Any number that nothing else in the database locks: "hearth" in hex.
_LOCK = 0x686561727468
_LOCK_TIMEOUT = "120s"
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]*")
_ENVIRONMENT = Path(__file__).parent / "migration_environment"


class Executes(Protocol):
    """The part of `alembic.op` that a policy needs."""

    def execute(self, sqltext: Any, /) -> None: ...


class Operations(Executes, Protocol):
    """The part of `alembic.op` that tables need."""

    def create_table(self, table_name: str, *columns: Any) -> Any: ...
    def create_index(self, index_name: str, table_name: str, columns: list[str], /) -> None: ...


def enable_row_level_security(op: Executes, table: str) -> None:
    """Lets a table's rows be seen and written only by the organization that the transaction is set to, owner included.

    The table needs a column `organization_id uuid NOT NULL`. Without an organization set there are no rows.
    """
    if not _IDENTIFIER.fullmatch(table):
        raise ValueError(f"{table!r} is not a plain table name")
    rule = "organization_id = NULLIF(current_setting('hearth.organization_id', true), '')::uuid"
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY {table}_tenant ON {table} USING ({rule}) WITH CHECK ({rule})")


def migrate(owner_url: str, script_location: str | Path) -> None:
    """Brings the database to the newest Alembic revision in `<script_location>/versions`.

    Several may call it at once: one works, the others wait up to two minutes and find nothing to do. Revisions run in one
    transaction: all or none.
    """
    # Imported here: Alembic is 20 MB that a serving process never needs.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_ENVIRONMENT).replace("%", "%%"))
    config.set_main_option("version_locations", str(Path(script_location) / "versions").replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    engine = sa.create_engine(sqlalchemy_url(owner_url), poolclass=sa.NullPool, connect_args={"connect_timeout": 10})
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
    _log.info("database is at the newest revision")


def sqlalchemy_url(url: str) -> sa.URL:
    """A libpq URL as SQLAlchemy takes it, with the psycopg driver."""
    return sa.make_url(url).set(drivername="postgresql+psycopg")
