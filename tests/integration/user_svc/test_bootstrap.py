"""The first start, and every one after it."""

import asyncio
import logging
from pathlib import Path

import psycopg
import pytest

from tests.integration.user_svc.conftest import Secrets, World, running
from tests.support.databases import FreshDatabase
from user_svc.domain.api_key import new_secret
from user_svc.factory import build


def _counts(database: FreshDatabase) -> dict[str, int]:
    with psycopg.connect(database.superuser_url) as connection:
        counts: dict[str, int] = {}
        for table in ("organizations", "users", "api_keys", "api_key_index", "signing_keys"):
            row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert row is not None
            counts[table] = row[0]
    return counts


_ONE_EACH = {"organizations": 1, "users": 1, "api_keys": 1, "api_key_index": 1, "signing_keys": 1}


async def test_replicas_that_start_at_once_make_one_of_each(secrets: Secrets, database: FreshDatabase) -> None:
    assemblies = await asyncio.gather(*(build(secrets.settings(database)) for _ in range(4)))
    for assembly in assemblies:
        for close in assembly.closers:
            await close()
    assert _counts(database) == _ONE_EACH


async def test_a_restart_changes_nothing_and_replicas_share_their_keys(
    secrets: Secrets, database: FreshDatabase
) -> None:
    async with running(secrets.settings(database)) as first, running(secrets.settings(database)) as second:
        one, other = World(first, secrets, database), World(second, secrets, database)
        client = await one.admin()
        elsewhere = await other.admin()
        assert client.who.user == elsewhere.who.user
        from hearth.user.v1 import token_service_pb2

        who = await elsewhere.tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=client.metadata)
        assert who.user == client.who.user
        await one.close()
        await other.close()
    assert _counts(database) == _ONE_EACH


async def test_a_new_key_in_the_file_is_added_and_a_revoked_one_does_not_come_back(
    secrets: Secrets, database: FreshDatabase
) -> None:
    async with running(secrets.settings(database)):
        pass
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("UPDATE api_keys SET revoke_time = now()")
        connection.execute("DELETE FROM api_key_index")
    async with running(secrets.settings(database)):
        pass
    assert _counts(database) == _ONE_EACH | {"api_key_index": 0}
    (secrets.folder / "admin").write_text(new_secret())
    async with running(secrets.settings(database)):
        pass
    assert _counts(database) == _ONE_EACH | {"api_keys": 2}


async def test_without_a_key_nobody_is_made(secrets: Secrets, database: FreshDatabase) -> None:
    settings = secrets.settings(database).model_copy(update={"bootstrap_admin_key_file": None})
    async with running(settings):
        pass
    assert _counts(database) == {"organizations": 0, "users": 0, "api_keys": 0, "api_key_index": 0, "signing_keys": 1}


@pytest.mark.parametrize("key", ["hk_short", "password", "hk_" + "!" * 43])
async def test_a_key_that_is_none_stops_the_start(secrets: Secrets, database: FreshDatabase, key: str) -> None:
    (secrets.folder / "admin").write_text(key)
    with pytest.raises(ValueError, match="bootstrap") as raised:
        await build(secrets.settings(database))
    assert key not in str(raised.value)


async def test_another_master_key_cannot_sign_with_the_stored_keys(
    secrets: Secrets, database: FreshDatabase, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with running(secrets.settings(database)):
        pass
    other = Secrets.make(tmp_path_factory.mktemp("other"))
    settings = secrets.settings(database).model_copy(update={"master_key_file": other.folder / "master"})
    with pytest.raises(ValueError, match="another master key"):
        await build(settings)


async def test_no_secret_is_stored_or_logged(
    secrets: Secrets, database: FreshDatabase, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with running(secrets.settings(database)) as address:
            world = World(address, secrets, database)
            admin = await world.admin()
            key = await admin.create_key()
            member = await world.member_of(admin)
            await world.sign_in(secrets.service_key, admin.organization_id)
            await world.close()
    canaries = [secrets.admin_key, key.secret, secrets.service_key, member.metadata[0][1].removeprefix("Bearer ")]
    logged = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    with psycopg.connect(database.superuser_url) as connection:
        stored = ""
        for table in ("organizations", "users", "api_keys", "api_key_index", "signing_keys", "request_ids"):
            rows = connection.execute(f"SELECT t.*::text FROM {table} t".encode()).fetchall()
            stored += repr(rows)
    assert "admin" in stored
    for canary in canaries:
        assert canary not in logged
        assert canary not in stored
