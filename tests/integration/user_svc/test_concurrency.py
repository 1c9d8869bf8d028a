"""Nobody slips into an organization that is being shut: with transactions held open where they would have to overlap."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import psycopg
import pytest

from chassis import errors, ids
from chassis.errors import DomainError
from chassis.status import from_rpc_error
from hearth.type.v1 import access_pb2
from hearth.user.v1 import organization_service_pb2, token_service_pb2, trusted_issuer_service_pb2
from tests.fakes.oidc_issuer import OidcIssuer
from tests.integration.user_svc.conftest import Client, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

_DISABLE = "UPDATE organizations SET state = 2, version = version + 1 WHERE id = %s"
_DELETE = "UPDATE organizations SET state = 3, delete_time = now(), version = version + 1 WHERE id = %s"


@asynccontextmanager
async def held(world: World, statement: str, *values: object) -> AsyncGenerator[psycopg.AsyncConnection]:
    """A transaction that has done this and not committed; it commits when the block ends."""
    async with await psycopg.AsyncConnection.connect(world.database.superuser_url) as connection:
        await connection.execute(statement.encode(), values)
        yield connection


async def waiting(connection: psycopg.AsyncConnection) -> None:
    """Returns once another transaction waits for this one."""
    query = b"SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    async with asyncio.timeout(5):
        while True:
            row = await (await connection.execute(query)).fetchone()
            if row is not None and row[0]:
                return
            await asyncio.sleep(0.02)


async def outcome(call: Awaitable[object]) -> DomainError | None:
    try:
        await call
    except Exception as error:
        return from_rpc_error(error)  # pyright: ignore[reportArgumentType]
    return None


def _creations(admin: Client, organization_id: str, user_id: str) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "a user": lambda: admin.create_user(organization_id=organization_id),
        "a key": lambda: admin.create_key(user_id, organization_id),
    }


@pytest.mark.parametrize("what", ["a user", "a key"])
@pytest.mark.parametrize("statement", [_DISABLE, _DELETE])
async def test_what_is_made_while_the_organization_is_shut_is_refused(
    world: World, admin: Client, what: str, statement: str
) -> None:
    organization = await admin.create_organization()
    user = await admin.create_user(organization_id=organization.id)
    creation = _creations(admin, organization.id, user.id)[what]
    async with held(world, statement, _uuid(organization.id)) as shutting:
        trying = [asyncio.create_task(outcome(creation())) for _ in range(3)]
        await waiting(shutting)
    got = await asyncio.gather(*trying)
    expected = errors.FailedPrecondition if statement == _DISABLE else errors.NotFound
    assert [type(one) for one in got] == [expected] * 3


@pytest.mark.parametrize(("what", "table"), [("a user", "users"), ("a key", "api_keys")])
async def test_what_is_being_made_is_shut_with_the_rest(world: World, admin: Client, what: str, table: str) -> None:
    organization = await admin.create_organization()
    user = await admin.create_user(organization_id=organization.id)
    creation = _creations(admin, organization.id, user.id)[what]
    delete = organization_service_pb2.DeleteOrganizationRequest(organization_id=organization.id)
    async with held(world, f"LOCK TABLE {table} IN SHARE MODE") as pausing:
        # It has seen the organization active, and waits to write.
        making = asyncio.create_task(outcome(creation()))
        await waiting(pausing)
        deleting = asyncio.create_task(outcome(admin.organizations.DeleteOrganization(delete, metadata=admin.metadata)))
        await asyncio.sleep(0.3)
        assert not deleting.done(), "the organization was deleted under the hands of one who had seen it active"
    assert await making is None
    assert await deleting is None
    left = "NOT disabled" if table == "users" else "revoke_time IS NULL"
    async with await psycopg.AsyncConnection.connect(world.database.superuser_url) as connection:
        query = f"SELECT count(*) FILTER (WHERE {left}), count(*) FROM {table} WHERE organization_id = %s"
        row = await (await connection.execute(query.encode(), (_uuid(organization.id),))).fetchone()
    assert row is not None
    assert row[0] == 0, f"{what} slipped in"
    assert row[1] >= 1


async def test_nobody_comes_with_a_token_into_an_organization_that_is_shut(
    world: World, first_admin: Client, admin: Client
) -> None:
    organization = await first_admin.create_organization()
    local = await world.member_of(first_admin, organization.id, "ROLE_ORGANIZATION_ADMIN")
    with OidcIssuer() as idp:
        trusted = trusted_issuer_service_pb2.CreateTrustedIssuerRequest(
            issuer=idp.issuer, audience="hearth", default_role=access_pb2.ROLE_VIEWER
        )
        await local.issuers.CreateTrustedIssuer(trusted, metadata=local.metadata)

        def come(subject: str) -> Awaitable[object]:
            metadata = (("authorization", f"Bearer {idp.token(sub=subject)}"),)
            return local.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=metadata)

        assert await outcome(come("early")) is None
        async with held(world, _DISABLE, _uuid(organization.id)) as shutting:
            trying = asyncio.create_task(outcome(come("late")))
            await waiting(shutting)
        assert isinstance(await trying, errors.Unauthenticated)
    async with await psycopg.AsyncConnection.connect(world.database.superuser_url) as connection:
        query = b"SELECT external_subject FROM users WHERE organization_id = %s AND external_issuer <> ''"
        rows = await (await connection.execute(query, (_uuid(organization.id),))).fetchall()
    assert rows == [("early",)]


def _uuid(organization_id: str) -> UUID:
    return ids.decode("org", organization_id)
