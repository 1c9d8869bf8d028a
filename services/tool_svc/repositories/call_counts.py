"""Counts of calls in PostgreSQL, one round trip each. The row is locked until the commit, so replicas count as one."""

from typing import LiteralString
from uuid import UUID

from chassis.database import Database
from tool_svc.domain.quota import CallCount

# A count that is lost in a crash of the database does no harm, so its commit waits for no disk.
_TAKE: LiteralString = """
INSERT INTO call_counts AS old (organization_id, minute, calls, calls_before)
SELECT %(organization)s, date_trunc('minute', clock_timestamp()), 1, 0
FROM (SELECT set_config('synchronous_commit', 'off', true)) AS lazily WHERE %(limit)s > 0
ON CONFLICT (organization_id) DO UPDATE SET
    minute = GREATEST(old.minute, excluded.minute),
    calls = CASE WHEN old.minute >= excluded.minute THEN old.calls + 1 ELSE 1 END,
    calls_before = CASE WHEN old.minute >= excluded.minute THEN old.calls_before
        WHEN old.minute = excluded.minute - interval '1 minute' THEN old.calls ELSE 0 END
WHERE CASE WHEN old.minute >= excluded.minute THEN old.calls ELSE 0 END + ceil(
    CASE WHEN old.minute >= excluded.minute THEN old.calls_before
        WHEN old.minute = excluded.minute - interval '1 minute' THEN old.calls ELSE 0 END
    * (1 - extract(second FROM clock_timestamp()) / 60)) < %(limit)s
RETURNING true
"""
_NOW: LiteralString = """
SELECT CASE WHEN minute >= this THEN calls ELSE 0 END AS calls,
    CASE WHEN minute >= this THEN calls_before WHEN minute = this - interval '1 minute' THEN calls ELSE 0 END AS calls_before,
    extract(second FROM clock_timestamp())::float8 AS second
FROM call_counts, (SELECT date_trunc('minute', clock_timestamp()) AS this) AS clock WHERE organization_id = %(organization)s
"""
_UNLIMITED = 2**62


class PostgresCallCounts:
    """A CallCounter over tool_svc's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, organization_id: UUID, limit: int | None) -> bool:
        values = {"organization": organization_id, "limit": _UNLIMITED if limit is None else limit}
        return bool(await self._database.run(organization_id, _TAKE, values))

    async def now(self, organization_id: UUID) -> CallCount:
        rows = await self._database.read(organization_id, _NOW, {"organization": organization_id})
        return CallCount(**rows[0]) if rows else CallCount(0, 0, 0.0)
