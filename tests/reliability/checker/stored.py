"""What the database holds of conversations after all is over, read as the superuser: no code of the product is in between."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from agent_svc.domain.event import EventType
from agent_svc.domain.frame import EventFrame
from agent_svc.servicers.frames import FrameWriter
from chassis import ids
from hearth.agent.v1 import event_pb2

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class StoredEvent:
    """A row of the log: the event as clients must see it, and the lease epoch that it was written under."""

    event: event_pb2.RunEvent
    epoch: int

    @property
    def kind(self) -> str:
        """The name of its payload."""
        return self.event.WhichOneof("payload") or ""


@dataclass(frozen=True)
class StoredConversation:
    """Everything of one conversation. Ids in rows are UUIDs, those in events as on the wire."""

    id: str
    row: dict[str, Any]
    events: list[StoredEvent]
    runs: Rows
    messages: Rows
    tool_calls: Rows
    steps: Rows

    @property
    def at_rest(self) -> bool:
        """Whether no run is unfinished."""
        return self.row["open_runs"] == 0 and all(run["state"] >= 4 for run in self.runs)


def read(superuser_url: str, conversation_ids: Iterable[str]) -> list[StoredConversation]:
    """The conversations, as one snapshot."""
    with psycopg.Connection[dict[str, Any]].connect(superuser_url, row_factory=dict_row) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return [_conversation(connection, conversation_id) for conversation_id in sorted(set(conversation_ids))]


def _conversation(connection: psycopg.Connection[dict[str, Any]], conversation_id: str) -> StoredConversation:
    key = ids.decode("conv", conversation_id)

    def rows(query: Any) -> Rows:
        return connection.execute(query, {"id": key}).fetchall()

    (row,) = rows("SELECT * FROM conversations WHERE id = %(id)s")
    writer = FrameWriter(row["organization_id"], key)
    events = rows("SELECT seq, run_id, epoch, type, body FROM events WHERE conversation_id = %(id)s ORDER BY seq")
    return StoredConversation(
        conversation_id,
        row,
        [_event(writer, event) for event in events],
        rows("SELECT * FROM runs WHERE conversation_id = %(id)s ORDER BY run_seq"),
        rows("SELECT * FROM messages WHERE conversation_id = %(id)s ORDER BY seq"),
        rows("SELECT * FROM tool_calls WHERE conversation_id = %(id)s"),
        rows("SELECT * FROM run_steps WHERE conversation_id = %(id)s"),
    )


def _event(writer: FrameWriter, row: dict[str, Any]) -> StoredEvent:
    run_id: UUID = row["run_id"]
    frame = EventFrame(row["seq"], run_id, row["epoch"], EventType(row["type"]), bytes(row["body"]))
    return StoredEvent(writer.write(frame).event, row["epoch"])
