"""What the model of a run's life is made of, and the database that it is compared with. See test_run_lifecycle."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from agent_svc.domain.approval import ApprovalRequest
from agent_svc.domain.log import Lease
from agent_svc.domain.run import RunState
from agent_svc.repositories.approval_log import PostgresApprovalLog
from agent_svc.repositories.log_pool import LogPool
from agent_svc.repositories.prepared import Prepared
from agent_svc.repositories.run_log import PostgresRunLog
from agent_svc.servicers.event_codec import ProtobufEventCodec

T = TypeVar("T")

CONVERSATION = Prepared(
    "test_conversation",
    "INSERT INTO conversations (id, organization_id, agent_id, display_name, create_time, update_time) "
    "VALUES (%(conversation)s, %(organization)s, %(run)s, '', now(), now())",
)
EXPIRE = Prepared(
    "test_lapse",
    "UPDATE conversations SET lease_expire_time = now() - interval '1 second' WHERE id = %(conversation)s "
    "AND lease_owner IS NOT NULL",
)
ROW = Prepared(
    "test_row",
    "SELECT head_seq, lease_epoch, lease_owner IS NOT NULL, open_runs, waiting, "
    "(SELECT array_agg(ROW(seq, run_id, epoch, type)::text ORDER BY seq) FROM events WHERE conversation_id = %(conversation)s), "
    "(SELECT array_agg(ROW(id, state, steps)::text ORDER BY run_seq) FROM runs WHERE conversation_id = %(conversation)s), "
    "(SELECT array_agg(ROW(run_id, tool_call_id, outcome)::text ORDER BY start_time, run_id, tool_call_id) FROM tool_calls "
    "WHERE conversation_id = %(conversation)s), "
    "(SELECT array_agg(seq ORDER BY seq) FROM messages WHERE conversation_id = %(conversation)s) "
    "FROM conversations WHERE id = %(conversation)s",
)
DUE = Prepared("test_due", "SELECT due_time = 'infinity' FROM dispatches WHERE conversation_id = %(conversation)s")


@dataclass
class RunModel:
    """A run as it must be."""

    id: UUID
    state: RunState = RunState.QUEUED
    steps: int = 0
    calls: dict[str, int] = field(default_factory=dict[str, int])
    # What it asked last, and what was answered.
    asked: ApprovalRequest | None = None
    answer: bool | None = None

    @property
    def open(self) -> bool:
        return not self.state.ended


@dataclass
class Hold:
    """A lease that some worker believes to have, and the run that it works on (None: it has just ended one)."""

    lease: Lease
    run: RunModel | None


class Database:
    """One loop, one pool, for all examples."""

    def __init__(self, url: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.pool = LogPool(url, application_name="lifecycle", size=2)
        self.do(self.pool.open())
        self.log = PostgresRunLog(self.pool)
        self.approvals = PostgresApprovalLog(self.pool)
        self.codec = ProtobufEventCodec()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        self.do(self.pool.close())
        self.loop.close()


def call_of_row(text: str) -> tuple[str, str, int]:
    run, call, outcome = text.strip("()").split(",")
    return run, call, int(outcome)
