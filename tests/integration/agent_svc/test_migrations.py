"""What migrations make of the rows that are there."""

from pathlib import Path

import psycopg

from agent_svc.domain.agent import AgentSettings
from agent_svc.repositories.unit_of_work import PostgresUnitOfWork
from chassis import ids
from chassis.database import Database
from chassis.migrations import migrate
from tests.integration.agent_svc.conftest import MIGRATIONS
from tests.support.databases import Databases

_RUN = """
INSERT INTO runs (id, organization_id, conversation_id, agent_id, run_seq, state, user_subject, body_hash, input_preview, create_time)
VALUES (gen_random_uuid(), %s, gen_random_uuid(), gen_random_uuid(), 1, %s, %s, '', '', now())
"""


def test_runs_that_have_not_ended_are_counted(databases: Databases, tmp_path: Path) -> None:
    database = databases.before(MIGRATIONS, "0003", tmp_path)
    busy, idle = ids.new(), ids.new()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        for state, user in ((1, "user_a"), (2, "user_a"), (3, "user_b"), (1, ""), (4, "user_a"), (6, "user_b")):
            superuser.execute(_RUN, (busy, state, user))
        superuser.execute(_RUN, (idle, 5, "user_c"))
        migrate(database.owner_url, MIGRATIONS)
        counts = superuser.execute(
            "SELECT organization_id, user_subject, open_runs FROM run_counts ORDER BY 2"
        ).fetchall()
        assert counts == [(busy, "", 4), (busy, "user_a", 2), (busy, "user_b", 1)]
        query = (
            "SELECT relname FROM pg_class WHERE relname IN ('runs', 'run_counts') AND relforcerowsecurity ORDER BY 1"
        )
        assert superuser.execute(query).fetchall() == [("run_counts",), ("runs",)]


_AGENT = """
INSERT INTO agents (id, organization_id, name, description, model, instructions, tool_ids, tags, settings, metadata,
    default_conversation_id, version, create_time, update_time)
VALUES (%s, %s, 'old', '', '', '', '{}', '{}', '{"max_steps": 5}', '{}', gen_random_uuid(), 1, now(), now())
"""


async def test_agents_made_before_there_were_rules_have_none(databases: Databases, tmp_path: Path) -> None:
    before = databases.before(MIGRATIONS, "0004", tmp_path)
    agent_id, organization_id = ids.new(), ids.new()
    with psycopg.connect(before.superuser_url, autocommit=True) as superuser:
        superuser.execute(_AGENT, (agent_id, organization_id))
    migrate(before.owner_url, MIGRATIONS)
    database = Database(before.url, application_name="test", pool_size=1)
    try:
        async with PostgresUnitOfWork(database).of(organization_id) as transaction:
            found = await transaction.agents.get(agent_id)
    finally:
        await database.close()
    assert found is not None
    assert (found.tool_rules, found.settings) == ((), AgentSettings(max_steps=5))
