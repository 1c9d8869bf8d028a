"""Request ids: one effect and one answer, however often and however simultaneously the request comes."""

import asyncio
import uuid

import pytest
import sqlalchemy as sa

from chassis import ids
from chassis.database import Database
from chassis.errors import InvalidArgument
from chassis.idempotency import Replayed, idempotent, request_key
from chassis.once import RequestKey
from hearth.user.v1 import user_service_pb2 as pb

_ORGANIZATION = ids.new()


def _key(request_id: uuid.UUID, body: bytes = b"body") -> RequestKey:
    return RequestKey("method", request_id, body)


async def _create(
    database: Database, key: RequestKey | None, answer: bytes, organization: uuid.UUID = _ORGANIZATION
) -> bytes:
    """What a manager does: claim, effect, answer."""
    try:
        async with database.transaction(organization) as session, idempotent(session, organization, key) as slot:
            if slot.replay is not None:
                raise Replayed(slot.replay)
            await asyncio.sleep(0.05)
            await session.execute(
                sa.text("INSERT INTO things VALUES (:id, :organization, :name)"),
                {"id": ids.new(), "organization": organization, "name": answer.decode()},
            )
            slot.save(answer)
            return answer
    except Replayed as replayed:
        return replayed.response


async def _count(database: Database, organization: uuid.UUID = _ORGANIZATION) -> int:
    async with database.transaction(organization) as session:
        return int((await session.execute(sa.text("SELECT count(*) FROM things"))).scalar_one())


async def test_the_second_gets_the_first_answer_and_has_no_effect(database: Database) -> None:
    key = _key(uuid.uuid4())
    assert await _create(database, key, b"first") == b"first"
    assert await _create(database, key, b"second") == b"first"
    assert await _count(database) == 1


async def test_many_at_once_have_one_effect_and_one_answer(database: Database) -> None:
    key = _key(uuid.uuid4())
    answers = await asyncio.gather(*(_create(database, key, f"answer {n}".encode()) for n in range(4)))
    assert len(set(answers)) == 1
    assert await _count(database) == 1


async def test_another_body_is_refused(database: Database) -> None:
    request_id = uuid.uuid4()
    await _create(database, _key(request_id), b"first")
    with pytest.raises(InvalidArgument) as raised:
        await _create(database, _key(request_id, b"other"), b"second")
    assert raised.value.reason == "REQUEST_ID_REUSED"
    assert await _count(database) == 1


async def test_what_failed_was_not_answered(database: Database) -> None:
    key = _key(uuid.uuid4())
    with pytest.raises(KeyError):
        async with database.transaction(_ORGANIZATION) as session, idempotent(session, _ORGANIZATION, key):
            raise KeyError
    assert await _create(database, key, b"second try") == b"second try"


async def test_without_an_id_each_is_the_first(database: Database) -> None:
    assert await _create(database, None, b"one") == b"one"
    assert await _create(database, None, b"two") == b"two"
    assert await _count(database) == 2


async def test_organizations_and_methods_do_not_share_ids(database: Database) -> None:
    request_id, other = uuid.uuid4(), ids.new()
    await _create(database, _key(request_id), b"one")
    assert await _create(database, _key(request_id), b"two", other) == b"two"
    assert await _create(database, RequestKey("another", request_id, b"body"), b"three") == b"three"


async def test_after_a_day_the_id_is_new_again(database: Database) -> None:
    key = _key(uuid.uuid4())
    await _create(database, key, b"old")
    async with database.transaction(_ORGANIZATION) as session:
        await session.execute(
            sa.text("UPDATE request_ids SET expire_time = expire_time - interval '24 hours 1 second'")
        )
    assert await _create(database, key, b"new") == b"new"
    assert await _create(database, key, b"newer") == b"new"


async def test_expired_ids_are_removed_in_passing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await _create(database, _key(uuid.uuid4()), b"old")
    async with database.transaction(_ORGANIZATION) as session:
        await session.execute(sa.text("UPDATE request_ids SET expire_time = now() - interval '1 second'"))
    monkeypatch.setattr("chassis.idempotency._PURGE_ONE_IN", 1)
    await _create(database, _key(uuid.uuid4()), b"new")
    async with database.transaction(_ORGANIZATION) as session:
        assert (await session.execute(sa.text("SELECT count(*) FROM request_ids"))).scalar_one() == 1


def test_the_key_is_of_everything_but_the_id() -> None:
    one, two = str(uuid.uuid4()), str(uuid.uuid4())
    first = request_key(pb.CreateUserRequest(request_id=one, name="rex"))
    again = request_key(pb.CreateUserRequest(request_id=two, name="rex"))
    other = request_key(pb.CreateUserRequest(request_id=one, name="max"))
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.body_hash == again.body_hash != other.body_hash
    assert (first.method, first.request_id) == ("hearth.user.v1.CreateUserRequest", uuid.UUID(one))
    assert request_key(pb.CreateUserRequest(name="rex")) is None
