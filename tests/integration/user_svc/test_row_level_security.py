"""The database itself keeps organizations apart, whatever the service's code does."""

import psycopg
import pytest
import pytest_asyncio

from chassis import ids
from hearth.type.v1 import access_pb2
from hearth.user.v1 import trusted_issuer_service_pb2
from tests.integration.user_svc.conftest import Client, World, until_recorded

_TENANT_TABLES = (
    *("organizations", "users", "api_keys", "trusted_issuers", "request_ids"),
    *("audit_events", "audit_heads"),
)
# Guarded too, and empty most of the time.
_PASSAGES = {"audit_outbox"}
# These name organizations and hold nothing of them; see the migration.
_OPEN_TABLES = {"api_key_index", "api_key_uses", "signing_keys", "revocations", "alembic_version"}


def _count(connection: "psycopg.Connection[tuple[int]]", table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return row[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(world: World, first_admin: Client) -> tuple[str, str]:
    """Two organizations with users, keys and stored answers, as UUIDs."""
    organization = await first_admin.create_organization()
    local = await world.member_of(first_admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    for client in (first_admin, local):
        trusted = trusted_issuer_service_pb2.CreateTrustedIssuerRequest(
            issuer=f"https://{ids.new().hex}.example", audience="hearth", default_role=access_pb2.ROLE_VIEWER
        )
        await client.issuers.CreateTrustedIssuer(trusted, metadata=client.metadata)
    await first_admin.create_user(request_id="0b1d7ab2-6c3e-4a36-9c07-0d2f3c1f3f10")
    await first_admin.create_user(request_id="0b1d7ab2-6c3e-4a36-9c07-0d2f3c1f3f11", organization_id=organization.id)
    await until_recorded(world)
    return str(ids.decode("org", first_admin.organization_id)), str(ids.decode("org", organization.id))


def test_every_table_is_guarded_or_known_to_be_open(world: World) -> None:
    with psycopg.connect(world.database.superuser_url) as connection:
        rows = connection.execute(
            "SELECT relname, relrowsecurity AND relforcerowsecurity FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
    assert {name for name, forced in rows if forced} == {*_TENANT_TABLES, *_PASSAGES}
    assert {name for name, forced in rows if not forced} == _OPEN_TABLES


@pytest.mark.parametrize("table", _TENANT_TABLES)
def test_the_service_s_role_sees_one_organization_or_none(world: World, two: tuple[str, str], table: str) -> None:
    with psycopg.connect(world.database.superuser_url) as connection:
        total = _count(connection, table)
    with psycopg.connect(world.database.url) as connection:
        assert _count(connection, table) == 0
        seen = []
        for organization in two:
            connection.execute("SELECT set_config('hearth.organization_id', %s, true)", (organization,))
            seen.append(_count(connection, table))
            rows = connection.execute(f"SELECT DISTINCT organization_id::text FROM {table}".encode()).fetchall()
            assert rows == [(organization,)]
        connection.execute("SELECT set_config('hearth.organization_id', %s, true)", (str(ids.new()),))
        assert _count(connection, table) == 0
    assert all(seen)
    assert sum(seen) == total


def test_a_platform_transaction_sees_organizations_and_nothing_else(world: World, two: tuple[str, str]) -> None:
    with psycopg.connect(world.database.url) as connection:
        connection.execute("SELECT set_config('hearth.platform', 'on', true)")
        assert {table: _count(connection, table) for table in _TENANT_TABLES} == {
            "organizations": 2,
            "users": 0,
            "api_keys": 0,
            "request_ids": 0,
            "audit_events": 0,
            "audit_heads": 0,
            "trusted_issuers": 0,
        }


def test_a_look_for_the_issuer_of_a_token_sees_issuers_and_changes_none(world: World, two: tuple[str, str]) -> None:
    with psycopg.connect(world.database.url) as connection:
        connection.execute("SELECT set_config('hearth.issuers', 'on', true)")
        seen = {table: _count(connection, table) for table in _TENANT_TABLES}
        assert seen == dict.fromkeys(_TENANT_TABLES, 0) | {"trusted_issuers": 2}
        for statement in ("UPDATE trusted_issuers SET audience = 'mine'", "DELETE FROM trusted_issuers"):
            assert connection.execute(statement.encode()).rowcount == 0
        connection.execute("SELECT set_config('hearth.organization_id', %s, true)", (two[0],))
        assert connection.execute(b"UPDATE trusted_issuers SET audience = 'mine'").rowcount == 1
        connection.rollback()


@pytest.mark.parametrize("table", ["users", "api_keys"])
def test_rows_cannot_be_written_into_another_organization(world: World, two: tuple[str, str], table: str) -> None:
    one, other = two
    with psycopg.connect(world.database.url) as connection:
        connection.execute("SELECT set_config('hearth.organization_id', %s, true)", (one,))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            connection.execute(f"UPDATE {table} SET organization_id = %s".encode(), (other,))


def test_the_role_owns_nothing_and_cannot_bypass(world: World) -> None:
    with psycopg.connect(world.database.url) as connection:
        owned = connection.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole").fetchone()
        rights = connection.execute(
            "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("ALTER TABLE users DISABLE ROW LEVEL SECURITY")
    assert (owned, rights) == ((0,), (False, False))
