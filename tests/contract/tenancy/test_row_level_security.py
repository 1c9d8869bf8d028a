"""The database itself keeps organizations apart: what each service's own role can see and do, for every table there is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from chassis import ids
from deploy.local import Stack
from tests.contract.tenancy.databases import DATABASES, Contents
from tests.contract.tenancy.tenants import Tenant

_SERVICES = sorted(DATABASES)


@dataclass(frozen=True, slots=True)
class Open:
    """Why a table has no policy, and which of its columns hold text. None may hold what a user wrote."""

    reason: str
    texts: frozenset[str] = frozenset()


_OPEN: Mapping[str, Open] = {
    "user_svc.api_key_index": Open("a key comes in before it is known whose it is; hashes and ids"),
    "user_svc.api_key_uses": Open("when keys of all organizations were used, written together; ids and times"),
    "user_svc.signing_keys": Open("the whole Hearth's, of no organization; sealed", frozenset({"key_id"})),
    "user_svc.revocations": Open("every service reads whose tokens are void; ids and times", frozenset({"subject"})),
    "memory_svc.outbox": Open("background work finds here what to index; ids", frozenset({"kind"})),
    "memory_svc.memory_organizations": Open("background work finds here whom to visit; ids"),
    "memory_svc.index_collections": Open("the vector index's collections, of no organization", frozenset({"name"})),
    "agent_svc.dispatches": Open("the sweep finds here which conversations are due; ids"),
    **{f"{service}.alembic_version": Open("the schema's version", frozenset({"version_num"})) for service in _SERVICES},
}

# Not even its own organization's rows may be changed.
_UNCHANGEABLE = {"user_svc.audit_events"}
# A record that its call has not completed: the relay leaves it there.
_HELD = """
INSERT INTO audit_outbox (id, organization_id, actor, on_behalf_of, action, resource, outcome, request_id, create_time, due_time)
VALUES (gen_random_uuid(), %s, 'user_x', '', 'x', '', '', 'x', now(), now() + interval '1 day')
"""
# What a run asked that nobody answers here.
_ASKED = """
INSERT INTO approvals (id, organization_id, conversation_id, run_id, message_id, call_ids, tool_versions, arguments_hash, create_time)
VALUES (gen_random_uuid(), %s, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{c1}', '{1}', 'x', now())
"""

_TABLES = """
SELECT c.relname, c.relrowsecurity, c.relforcerowsecurity,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'organization_id' AND a.attnotnull)
FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY 1
"""
_TEXTS = """
SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s
AND (data_type IN ('text', 'character varying', 'character', 'json', 'jsonb', 'xml', 'ARRAY', 'USER-DEFINED'))
"""
# Views and functions with their owner's rights would be a way around every policy.
_WAYS_AROUND = """
SELECT relname::text FROM pg_class WHERE relkind IN ('v', 'm', 'f') AND relnamespace = 'public'::regnamespace
UNION ALL SELECT proname::text FROM pg_proc WHERE prosecdef AND pronamespace = 'public'::regnamespace
"""
_SETTABLE = """
SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s
AND is_generated = 'NEVER' AND identity_generation IS DISTINCT FROM 'ALWAYS'
"""
_ALL = sql.SQL("true")
_RIGHTS = "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = current_user"
_OWNED = "SELECT count(*) FROM pg_shdepend WHERE refobjid = current_user::regrole AND deptype = 'o'"
_MEMBER_OF = "SELECT rolname FROM pg_roles WHERE pg_has_role(current_user, oid, 'MEMBER') AND rolname <> current_user"


@pytest.fixture(scope="module")
def contents(stack: Stack, first: Tenant) -> Iterator[Contents]:
    """The databases as the superuser sees them, with an audit record of the first organization in each outbox, and an approval."""
    with Contents(stack) as opened:
        for connection in opened.connections.values():
            connection.execute(_HELD, (first.uuid,))
        opened.connections["agent_svc"].execute(_ASKED, (first.uuid,))
        yield opened


@pytest.fixture(params=_SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """One service after the other."""
    return request.param


@pytest.fixture
def role(stack: Stack, service: str) -> Iterator[psycopg.Connection]:
    """A connection as the service's own role; nothing that is done over it stays."""
    with psycopg.connect(stack.database_url(service)) as connection:
        yield connection
        connection.rollback()


def _set(connection: psycopg.Connection, organization_id: object) -> None:
    connection.execute("SELECT set_config('hearth.organization_id', %s, true)", (str(organization_id),))


def _count(connection: psycopg.Connection, table: str, where: sql.Composable = _ALL) -> int:
    query = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.Identifier(table), where)
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_every_table_is_under_a_forced_policy_or_known_to_be_open(contents: Contents) -> None:
    seen = set[str]()
    for service in _SERVICES:
        for table, enabled, forced, has_organization in contents.rows(service, _TABLES):
            name = f"{service}.{table}"
            if name in _OPEN:
                seen.add(name)
                assert not enabled, f"{name} is guarded now: take it off the list"
                texts = {column for (column,) in contents.rows(service, _TEXTS, (table,))}
                assert texts == _OPEN[name].texts, f"{name} is open to all organizations and holds text"
            else:
                assert (enabled, forced) == (True, True), f"{name}: row-level security is not forced"
                assert has_organization, f"{name} has no organization_id uuid NOT NULL"
    assert seen == set(_OPEN), "the list names tables that are not there"


def test_there_is_no_way_around_the_policies(contents: Contents, service: str) -> None:
    assert contents.rows(service, _WAYS_AROUND) == []


def test_the_role_sees_one_organization_or_nothing(
    role: psycopg.Connection, service: str, contents: Contents, first: Tenant, second: Tenant
) -> None:
    tables = contents.guarded(service)
    assert tables
    for table in tables:
        there = contents.rows(service, f"SELECT count(*) FROM {table} WHERE organization_id = %s", (first.uuid,))[0][0]
        assert there, f"no row of the test's organization in {service}.{table}: make one in tenants.py"
        role.rollback()
        assert _count(role, table) == 0, f"{table}: rows without an organization set"
        _set(role, "")
        assert _count(role, table) == 0, f"{table}: rows for no organization"
        _set(role, ids.new())
        assert _count(role, table) == 0, f"{table}: rows for an organization that does not exist"
        _set(role, second.uuid)
        foreign = sql.SQL("organization_id <> {}").format(sql.Literal(second.uuid))
        assert _count(role, table, foreign) == 0, f"{table}: another organization's rows"
        _set(role, first.uuid)
        assert _count(role, table) == there, f"{table}: not the organization's own rows"


def test_the_role_cannot_write_into_another_organization(
    role: psycopg.Connection, service: str, contents: Contents, first: Tenant, second: Tenant
) -> None:
    for table in contents.guarded(service):
        copy = f"SELECT to_jsonb(t) FROM {table} AS t WHERE organization_id = %s LIMIT 1"
        row = contents.rows(service, copy, (first.uuid,))[0][0]
        columns = [sql.Identifier(name) for (name,) in contents.rows(service, _SETTABLE, (table,))]
        insert = sql.SQL(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{table}, %s)"
        )
        statement = insert.format(table=sql.Identifier(table), columns=sql.SQL(", ").join(columns))
        for own in (second.uuid, ""):
            role.rollback()
            _set(role, own)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                role.execute(statement, (Jsonb(row),))


def test_the_role_cannot_give_or_take_rows(
    role: psycopg.Connection, service: str, contents: Contents, first: Tenant, second: Tenant
) -> None:
    for table in contents.guarded(service):
        # An organization's own id is what its row belongs to.
        column = "id" if table == "organizations" else "organization_id"
        names = {"table": sql.Identifier(table), "column": sql.Identifier(column)}
        role.rollback()
        _set(role, first.uuid)
        unchangeable = f"{service}.{table}" in _UNCHANGEABLE
        refusal = "permission denied for table" if unchangeable else "row-level security"
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=refusal):
            role.execute(sql.SQL("UPDATE {table} SET {column} = %s").format(**names), (second.uuid,))
        role.rollback()
        _set(role, second.uuid)
        where = sql.SQL("WHERE organization_id = %s")
        take = sql.SQL("UPDATE {table} SET {column} = {column} {where}").format(**names, where=where)
        if not unchangeable:
            assert role.execute(take, (first.uuid,)).rowcount == 0, f"changed another organization's {table}"
        delete = sql.SQL("DELETE FROM {table} {where}").format(**names, where=where)
        assert role.execute(delete, (first.uuid,)).rowcount == 0, f"deleted another organization's {table}"


def test_the_role_owns_nothing_and_has_no_special_right(
    role: psycopg.Connection, contents: Contents, service: str
) -> None:
    assert role.execute(_RIGHTS).fetchone() == (False,) * 5
    assert role.execute(_OWNED).fetchone() == (0,)
    assert role.execute(_MEMBER_OF).fetchall() == []
    table = sql.Identifier(contents.guarded(service)[0])
    for attempt in (
        sql.SQL("CREATE TABLE public.mine (id integer)"),
        sql.SQL("CREATE SCHEMA mine"),
        sql.SQL("CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'"),
        sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(table),
        sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(table),
        sql.SQL("CREATE POLICY mine ON {} USING (true)").format(table),
        sql.SQL("TRUNCATE {}").format(table),
        sql.SQL("SET ROLE {}").format(sql.Identifier(f"{service}_owner")),
        sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(f"{service}_owner")),
        sql.SQL("COPY (SELECT 1) TO PROGRAM 'true'"),
        sql.SQL("SELECT pg_read_file('/etc/hostname')"),
    ):
        role.rollback()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            role.execute(attempt)


def test_row_level_security_cannot_be_switched_off(role: psycopg.Connection, service: str, contents: Contents) -> None:
    role.execute("SET LOCAL row_security = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        _count(role, contents.guarded(service)[0])


def test_the_role_cannot_connect_to_another_s_database(stack: Stack, service: str) -> None:
    url = stack.database_url(service)
    others = [name for owner, name in DATABASES.items() if owner != service]
    for name in (*others, "postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(make_conninfo(url, dbname=name)).close()
