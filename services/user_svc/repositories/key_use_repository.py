"""The last uses of API keys in PostgreSQL: one statement for keys of all organizations."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from chassis.database import Database

# Sorted, so that two replicas never wait for each other; a key that was revoked meanwhile is in the index no more.
_SAVE = sa.text("""
INSERT INTO api_key_uses AS known (key_id, last_used_time)
SELECT used.key_id, used.moment
FROM unnest(CAST(:keys AS uuid[]), CAST(:moments AS timestamptz[])) AS used (key_id, moment)
JOIN api_key_index ON api_key_index.key_id = used.key_id
ORDER BY used.key_id
ON CONFLICT (key_id) DO UPDATE SET last_used_time = GREATEST(known.last_used_time, excluded.last_used_time)
""")


class PostgresKeyUses:
    """A KeyUseRepository over user_svc's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, uses: Mapping[UUID, datetime]) -> None:
        async with self._database.transaction(None) as session:
            await session.execute(_SAVE, {"keys": list(uses), "moments": list(uses.values())})
