"""Row-level security on the path of a turn: one round trip, one implicit transaction.

The same statement on two tables that differ in their policy, with the organization set and without, taking turns, so that whatever else
the machine does hits both: one by one for latency, a hundred by a hundred for CPU, which is this process's and PostgreSQL's.
"""

import itertools
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import psycopg

from agent_svc.repositories.log_pool import LogPool
from agent_svc.repositories.prepared import Prepared
from bench.figures import Figures, percentile
from bench.processes import cpu_ms
from chassis.migrations import enable_row_level_security
from deploy.local import Stack
from tests.support.databases import Databases

_SCHEMA = """
CREATE TABLE {table} (id uuid PRIMARY KEY, organization_id uuid NOT NULL, preview text NOT NULL);
"""


@dataclass
class Side:
    """One of the two ways to do the same, as measured."""

    latencies_ms: list[float] = field(default_factory=list[float])
    cpu_us: float = 0.0


class _Owner:
    """Implements chassis.migrations.Executes."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def execute(self, sqltext: str) -> None:
        self._connection.execute(sqltext.encode())


async def row_level_security(figures: Figures, operations: int) -> None:
    """Inserts and selects by key, with a policy and the organization set, and without either."""
    with Stack(only=("postgres",)) as stack:
        database = Databases(stack.superuser_url()).empty()
        with psycopg.connect(database.owner_url, autocommit=True) as owner:
            for table in ("plain", "guarded"):
                owner.execute(_SCHEMA.format(table=table).encode())
            enable_row_level_security(_Owner(owner), "guarded")
        pool = LogPool(database.url, application_name="bench", size=1)
        await pool.open()
        try:
            sides = {
                name: await _compare(stack, pool, statement, operations)
                for name, statement in (("insert", _INSERT), ("select", _SELECT))
            }
        finally:
            await pool.close()
    for name, (plain, guarded) in sides.items():
        figures.add(f"rls_{name}_ratio", guarded.cpu_us / plain.cpu_us, "CPU ratio")
        figures.raw[f"rls_{name}"] = {
            side: {
                "cpu_us": round(one.cpu_us, 1),
                "p50_ms": round(percentile(one.latencies_ms, 0.5), 3),
                "p95_ms": round(percentile(one.latencies_ms, 0.95), 3),
            }
            for side, one in (("without", plain), ("with", guarded))
        }
    ratios = [
        percentile(guarded.latencies_ms, 0.95) / percentile(plain.latencies_ms, 0.95)
        for plain, guarded in sides.values()
    ]
    figures.add("rls_p95_ratio", max(ratios), "ratio, the worse of both")


_INSERT = "INSERT INTO {table} (id, organization_id, preview) VALUES (%(run)s, %(organization)s, %(preview)s)"
_SELECT = "SELECT preview FROM {table} WHERE id = %(run)s AND organization_id = %(organization)s"
_ORGANIZATION = uuid.uuid4()
_KEYS = [uuid.uuid4() for _ in range(50_000)]
_BLOCK = 100


async def _compare(stack: Stack, pool: LogPool, statement: str, operations: int) -> tuple[Side, Side]:
    numbers = itertools.count()
    plain, guarded = (
        Prepared(f"{table}_{statement[:6].lower()}", statement.format(table=table)) for table in ("plain", "guarded")
    )

    async def without(key: uuid.UUID) -> None:
        await pool.run([plain], {"run": key, "organization": _ORGANIZATION, "preview": "x" * 200})

    async def with_policy(key: uuid.UUID) -> None:
        await pool.tenant(_ORGANIZATION, [guarded], {"run": key, "preview": "x" * 200})

    sides = (Side(), Side())
    # What prepares the connection is not measured.
    await without(uuid.uuid4())
    await with_policy(uuid.uuid4())
    works = list(zip(sides, (without, with_policy), strict=True))
    for _ in range(operations // _BLOCK):
        keys = [_KEYS[next(numbers) % len(_KEYS)] for _ in range(_BLOCK)]
        for side, work in works:
            side.cpu_us += await _block(stack, work, keys)
    for number in range(operations):
        key = _KEYS[next(numbers) % len(_KEYS)]
        # Each goes first as often as the other.
        for side, work in works if number % 2 else reversed(works):
            begun = time.perf_counter()
            await work(key)
            side.latencies_ms.append((time.perf_counter() - begun) * 1e3)
    for side in sides:
        side.cpu_us /= operations // _BLOCK * _BLOCK
    return sides


async def _block(stack: Stack, work: Callable[[uuid.UUID], Awaitable[None]], keys: list[uuid.UUID]) -> float:
    """CPU microseconds of a block."""
    before = time.process_time() * 1e6 + cpu_ms(stack.processes())["postgres"] * 1e3
    for key in keys:
        await work(key)
    return time.process_time() * 1e6 + cpu_ms(stack.processes())["postgres"] * 1e3 - before
