"""What migrations make of the rows that are there."""

from pathlib import Path

import psycopg

from chassis.migrations import migrate
from tests.integration.user_svc.conftest import MIGRATIONS
from tests.support.databases import Databases

_ORGANIZATION = """
INSERT INTO organizations (id, name, display_name, state, create_time, update_time, delete_time, version)
VALUES (gen_random_uuid(), %s, '', 1, now(), now(), %s, 1)
"""


def test_what_was_deleted_before_goes_after_a_time_of_grace(databases: Databases, tmp_path: Path) -> None:
    database = databases.before(MIGRATIONS, "0004", tmp_path)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(_ORGANIZATION, ("alive", None))
        superuser.execute(_ORGANIZATION, ("gone", "2020-01-01"))
        migrate(database.owner_url, MIGRATIONS)
        query = "SELECT name, limits, purges, purge_time > now() + interval '6 days' FROM organizations ORDER BY 1"
        assert superuser.execute(query).fetchall() == [("alive", {}, {}, None), ("gone", {}, {}, True)]
