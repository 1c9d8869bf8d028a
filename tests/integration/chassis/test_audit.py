"""The outbox of audit records on a real PostgreSQL: with the effect or not at all, and until it has arrived."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row

from chassis import audit, ids
from chassis.audit import AuditRecord, PendingRecord
from chassis.audit.declared import AuditRule, Declared
from chassis.audit.outbox import BATCH, Outbox
from chassis.audit.relay import Relay
from chassis.audit.trail import AuditTrail
from chassis.callcontext import Call, set_call
from chassis.database import Database
from chassis.errors import NotFound, ResourceExhausted, Unavailable
from chassis.identity import Identity, Role
from tests.support.databases import FreshDatabase

_INSERT = sa.text("INSERT INTO things VALUES (:id, :organization_id, :name)")
_COUNT = sa.text("SELECT count(*) FROM things")


class Nowhere:
    """A Road that is closed until it is opened; then what is sent arrives."""

    def __init__(self) -> None:
        self.open_ = False
        self.sent: list[list[AuditRecord]] = []
        self.arrives = True
        self._relay: Relay | None = None

    async def open(self, relay: Relay) -> None:
        self._relay = relay

    async def send(self, records: Sequence[AuditRecord]) -> bool:
        if self.open_:
            self.sent.append(list(records))
            if self.arrives and self._relay is not None:
                await self._relay.arrived([record.id for record in records])
        return self.open_


@pytest.fixture(autouse=True)
def _no_call() -> Iterator[None]:
    yield
    set_call(None)


@pytest.fixture
def trail(database: Database) -> AuditTrail:
    """Nothing of it runs."""
    return AuditTrail(database, Nowhere())


def begin(*, ahead: bool = False, organization_id: uuid.UUID | None = None) -> PendingRecord:
    """A call by a member that is to be recorded."""
    pending = PendingRecord(Declared(AuditRule.ALWAYS, ahead=ahead), "shop.Sell", "request-1", lambda: None)
    set_call(Call("/shop/Sell", "request-1", "", None, pending))
    pending.identify(Identity(organization_id or ids.new(), "svc:shop", Role.SERVICE, "", on_behalf_of="user_1"))
    return pending


def rows(fresh: FreshDatabase) -> list[dict[str, Any]]:
    with psycopg.connect(fresh.superuser_url) as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute("SELECT * FROM audit_outbox ORDER BY id").fetchall()


async def write(database: Database, organization_id: uuid.UUID, name: str) -> None:
    async with database.transaction(organization_id) as session:
        await session.execute(_INSERT, {"id": ids.new(), "organization_id": organization_id, "name": name})


async def test_a_record_is_committed_with_the_effect(database: Database, fresh: FreshDatabase) -> None:
    organization_id = ids.new()
    pending = begin(organization_id=organization_id)
    audit.concerning("shoe_1")
    await write(database, organization_id, "a")
    (row,) = rows(fresh)
    assert (row["organization_id"], row["actor"], row["on_behalf_of"]) == (organization_id, "svc:shop", "user_1")
    assert (row["action"], row["resource"], row["outcome"]) == ("shop.Sell", "shoe_1", "OK")
    assert (row["request_id"], row["count"]) == ("request-1", 1)
    assert not pending.open
    await write(database, organization_id, "b")
    assert len(rows(fresh)) == 1


async def test_without_the_effect_there_is_no_record(database: Database, fresh: FreshDatabase) -> None:
    organization_id = ids.new()
    pending = begin(organization_id=organization_id)
    with suppress(NotFound):
        async with database.transaction(organization_id) as session:
            await session.execute(_INSERT, {"id": ids.new(), "organization_id": organization_id, "name": "a"})
            raise NotFound("no", reason="RESOURCE_NOT_FOUND")
    assert rows(fresh) == []
    assert pending.owed


async def test_a_transaction_that_only_reads_leaves_it_to_the_next(database: Database, fresh: FreshDatabase) -> None:
    organization_id = ids.new()
    begin(organization_id=organization_id)
    async with database.transaction(organization_id) as session:
        await session.execute(_COUNT)
    async with database.transaction(organization_id) as session:
        await session.execute(sa.text("UPDATE things SET name = 'x' WHERE false"))
    assert rows(fresh) == []
    await write(database, organization_id, "a")
    assert len(rows(fresh)) == 1


async def test_the_effect_may_be_another_organization_s(database: Database, fresh: FreshDatabase) -> None:
    pending = begin()
    await write(database, ids.new(), "a")
    (row,) = rows(fresh)
    assert row["organization_id"] == pending.record("OK").organization_id


async def test_a_commit_that_fails_leaves_neither(database: Database, fresh: FreshDatabase) -> None:
    organization_id = ids.new()
    with psycopg.connect(fresh.owner_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE things ADD CONSTRAINT later UNIQUE (organization_id) DEFERRABLE INITIALLY DEFERRED")
    await write(database, organization_id, "a")
    pending = begin(organization_id=organization_id)
    with pytest.raises(Exception, match="later"):
        await write(database, organization_id, "b")
    assert rows(fresh) == []
    assert pending.owed


async def test_a_call_that_wrote_nothing_is_recorded_at_its_end(trail: AuditTrail, fresh: FreshDatabase) -> None:
    pending = begin()
    await trail.done(pending)
    await trail.done(pending)
    assert [row["outcome"] for row in rows(fresh)] == ["OK"]


async def test_refusals_and_what_is_none(trail: AuditTrail, fresh: FreshDatabase) -> None:
    organization_id = ids.new()
    for code in ("NOT_FOUND", "NOT_FOUND", "PERMISSION_DENIED", "UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED"):
        await trail.refused(begin(organization_id=organization_id), code)
    assert sorted(row["outcome"] for row in rows(fresh)) == ["NOT_FOUND", "PERMISSION_DENIED"]
    for _ in range(9):
        await trail.refused(begin(organization_id=organization_id), "NOT_FOUND")
    await trail.stop()
    assert sorted((row["outcome"], row["count"]) for row in rows(fresh)) == [
        ("NOT_FOUND", 1),
        ("NOT_FOUND", 10),
        ("PERMISSION_DENIED", 1),
    ]


async def test_a_refusal_is_counted_while_the_database_is_away(fresh: FreshDatabase) -> None:
    away = Database(fresh.url.replace("127.0.0.1", "127.0.0.2"), application_name="test", pool_size=1)
    trail = AuditTrail(away, Nowhere())
    await trail.refused(begin(), "NOT_FOUND")
    await away.close()
    assert rows(fresh) == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "OK"), (NotFound("no", reason="RESOURCE_NOT_FOUND"), "NOT_FOUND"), (ValueError(), "INTERNAL")],
)
async def test_what_is_no_transaction_is_recorded_ahead(
    trail: AuditTrail, fresh: FreshDatabase, error: Exception | None, outcome: str
) -> None:
    pending = begin(ahead=True)
    with suppress(NotFound, ValueError):
        async with trail.around(pending):
            (row,) = rows(fresh)
            assert (row["outcome"], row["resource"]) == ("", "")
            audit.concerning("tool_01h45ntb4pexnvskng1042k02q")
            if error is not None:
                raise error
    (row,) = rows(fresh)
    assert (row["outcome"], row["resource"]) == (outcome, "tool_01h45ntb4pexnvskng1042k02q")
    assert not pending.open


async def test_a_call_that_is_cancelled_says_so(trail: AuditTrail, fresh: FreshDatabase) -> None:
    async def call() -> None:
        async with trail.around(begin(ahead=True)):
            await asyncio.sleep(60)

    task = asyncio.create_task(call())
    while not rows(fresh):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [row["outcome"] for row in rows(fresh)] == ["CANCELLED"]


async def test_a_caller_who_leaves_with_the_answer_has_cancelled_nothing(
    trail: AuditTrail, fresh: FreshDatabase
) -> None:
    answered = asyncio.Event()

    async def call() -> None:
        pending = begin(ahead=True)
        async with trail.around(pending):
            pending.concluded = True
            answered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(call())
    await answered.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [row["outcome"] for row in rows(fresh)] == ["OK"]


async def test_refused_again_and_again_leaves_one(trail: AuditTrail, fresh: FreshDatabase) -> None:
    organization_id = ids.new()
    for _ in range(5):
        with suppress(NotFound):
            async with trail.around(begin(ahead=True, organization_id=organization_id)):
                raise NotFound("no", reason="RESOURCE_NOT_FOUND")
    assert [row["outcome"] for row in rows(fresh)] == ["NOT_FOUND"]


async def test_a_call_that_was_turned_away_leaves_none(trail: AuditTrail, fresh: FreshDatabase) -> None:
    with suppress(ResourceExhausted):
        async with trail.around(begin(ahead=True)):
            raise ResourceExhausted("busy", reason="RATE_LIMITED", retry_after_s=1.0)
    assert rows(fresh) == []


async def test_what_is_claimed_comes_again_and_what_is_held_as_unknown(
    database: Database, trail: AuditTrail, fresh: FreshDatabase
) -> None:
    outbox = Outbox(database)
    await outbox.put(begin().record("OK"))
    await outbox.put(begin().record(""))
    claimed = await outbox.claim()
    assert [record.outcome for record in claimed] == ["OK"]
    assert await outbox.claim() == []
    await outbox.release_all()
    assert await outbox.claim() == claimed
    with psycopg.connect(fresh.superuser_url) as connection:
        connection.execute("UPDATE audit_outbox SET due_time = now()")
    assert sorted(record.outcome for record in await outbox.claim()) == ["OK", "UNKNOWN"]
    await outbox.remove([record.id for record in claimed])
    assert [row["outcome"] for row in rows(fresh)] == ["UNKNOWN"]


async def test_replicas_do_not_take_the_same_record(database: Database) -> None:
    outbox = Outbox(database)
    for _ in range(30):
        await outbox.put(begin().record("OK"))
    taken = await asyncio.gather(*(outbox.claim() for _ in range(4)))
    found = [record.id for records in taken for record in records]
    assert len(found) == len(set(found)) == 30


async def test_a_record_leaves_when_it_has_arrived_and_not_before(database: Database, fresh: FreshDatabase) -> None:
    road = Nowhere()
    trail = AuditTrail(database, road)
    await trail.start()
    try:
        await trail.done(begin())
        await asyncio.sleep(1)
        assert len(rows(fresh)) == 1
        road.open_, road.arrives = True, False
        await trail.done(begin())
        await _until(lambda: sum(map(len, road.sent)) == 2)
        assert len(rows(fresh)) == 2
        road.arrives = True
        await Outbox(database).release_all()
        await trail.done(begin())
        await _until(lambda: rows(fresh) == [])
    finally:
        await trail.stop()


async def test_more_than_a_batch_goes_at_once(database: Database, fresh: FreshDatabase) -> None:
    road = Nowhere()
    road.open_ = True
    trail = AuditTrail(database, road)
    organization_id = ids.new()
    with psycopg.connect(fresh.superuser_url) as connection:
        connection.execute(
            "INSERT INTO audit_outbox (id, organization_id, actor, on_behalf_of, action, resource, outcome, request_id, create_time)"
            " SELECT gen_random_uuid(), %s, 'a', '', 'x', '', 'OK', 'r', now() FROM generate_series(1, %s)",
            (organization_id, BATCH * 2 + 1),
        )
    await trail.start()
    try:
        await _until(lambda: rows(fresh) == [])
    finally:
        await trail.stop()
    assert [len(records) for records in road.sent] == [BATCH, BATCH, 1]


async def test_a_road_that_fails_is_tried_again(database: Database, fresh: FreshDatabase) -> None:
    class Broken(Nowhere):
        async def send(self, records: Sequence[AuditRecord]) -> bool:
            if not self.open_:
                raise Unavailable("the chain does not answer", reason="DEPENDENCY_UNAVAILABLE")
            return await super().send(records)

    road = Broken()
    trail = AuditTrail(database, road)
    await trail.start()
    try:
        await trail.done(begin())
        await asyncio.sleep(1)
        road.open_ = True
        await asyncio.sleep(1)
        await trail.done(begin())
        await _until(lambda: rows(fresh) == [])
    finally:
        await trail.stop()


async def _until(there: Any) -> None:
    for _ in range(100):
        if there():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it does not come to that")
