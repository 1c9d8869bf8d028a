"""What migrations make of the rows that are there."""

from pathlib import Path

import psycopg

from chassis import ids
from chassis.migrations import migrate
from tests.integration.memory_svc.conftest import MIGRATIONS
from tests.support.databases import Databases


def test_passages_are_counted(databases: Databases, tmp_path: Path) -> None:
    database = databases.before(MIGRATIONS, "0003", tmp_path)
    one, two = ids.new(), ids.new()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        for organization, count in ((one, 3), (one, 4), (two, 0)):
            superuser.execute("INSERT INTO agent_memory VALUES (%s, gen_random_uuid(), %s, 9)", (organization, count))
        migrate(database.owner_url, MIGRATIONS)
        counts = dict(superuser.execute("SELECT organization_id, passage_count FROM organization_memory").fetchall())
        assert counts == {one: 7, two: 0}
        query = "SELECT count(*) FROM pg_class WHERE relname IN ('agent_memory', 'organization_memory') AND relforcerowsecurity"
        assert superuser.execute(query).fetchone() == (2,)
