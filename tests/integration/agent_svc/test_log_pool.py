"""The connections of the run path: what callers do who leave at the wrong moment is not for others to feel."""

import asyncio
import random

from agent_svc.repositories.log_pool import LogPool
from agent_svc.repositories.prepared import Prepared
from chassis import ids
from tests.integration.agent_svc.conftest import MIGRATIONS
from tests.support.databases import Databases


async def test_a_caller_who_leaves_while_a_statement_is_prepared_spoils_nothing(databases: Databases) -> None:
    pool = LogPool(databases.fresh(MIGRATIONS).url, application_name="test", size=1)
    await pool.open()
    organization = ids.new()
    chance = random.Random(1)
    try:
        for number in range(40):
            statement = Prepared(f"test_number_{number}", f"SELECT {number}")
            leaving = asyncio.create_task(pool.tenant(organization, [statement], {}))
            await asyncio.sleep(chance.random() * 0.002)
            leaving.cancel()
            await asyncio.wait({leaving})
            assert await pool.tenant(organization, [statement], {}) == [[(number,)]]
    finally:
        await pool.close()
