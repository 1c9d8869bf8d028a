"""Counts of calls in PostgreSQL. The row is locked until the commit, so replicas count as one."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from tool_svc.domain.quota import CallCount

# A count that is lost in a crash of the database does no harm, so its commit waits for no disk.
_TAKE = sa.text("""
INSERT INTO call_counts AS old (organization_id, minute, calls, calls_before)
SELECT :organization, date_trunc('minute', clock_timestamp()), 1, 0
FROM (SELECT set_config('synchronous_commit', 'off', true)) AS lazily WHERE :limit > 0
ON CONFLICT (organization_id) DO UPDATE SET
    minute = GREATEST(old.minute, excluded.minute),
    calls = CASE WHEN old.minute >= excluded.minute THEN old.calls + 1 ELSE 1 END,
    calls_before = CASE WHEN old.minute >= excluded.minute THEN old.calls_before
        WHEN old.minute = excluded.minute - interval '1 minute' THEN old.calls ELSE 0 END
WHERE CASE WHEN old.minute >= excluded.minute THEN old.calls ELSE 0 END + ceil(
    CASE WHEN old.minute >= excluded.minute THEN old.calls_before
        WHEN old.minute = excluded.minute - interval '1 minute' THEN old.calls ELSE 0 END
    * (1 - extract(second FROM clock_timestamp()) / 60)) < :limit
RETURNING true
""")
_NOW = sa.text("""
SELECT CASE WHEN minute >= this THEN calls ELSE 0 END,
    CASE WHEN minute >= this THEN calls_before WHEN minute = this - interval '1 minute' THEN calls ELSE 0 END,
    extract(second FROM clock_timestamp())::float8
FROM call_counts, (SELECT date_trunc('minute', clock_timestamp()) AS this) AS clock WHERE organization_id = :organization
""")
_UNLIMITED = 2**62


class PostgresCallCounts:
    """A CallCounter in one transaction, for one organization."""

    def __init__(self, session: AsyncSession, organization_id: UUID) -> None:
        self._session = session
        self._organization_id = organization_id

    async def take(self, limit: int | None) -> bool:
        values = {"organization": self._organization_id, "limit": _UNLIMITED if limit is None else limit}
        return (await self._session.execute(_TAKE, values)).first() is not None

    async def now(self) -> CallCount:
        row = (await self._session.execute(_NOW, {"organization": self._organization_id})).one_or_none()
        return CallCount(0, 0, 0.0) if row is None else CallCount(*row)
