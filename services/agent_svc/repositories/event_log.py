"""Reads of the log: for watchers, and for the index of recall memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from uuid import UUID

from agent_svc.domain.event import EventType
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.log import LogHead, Unindexed
from agent_svc.repositories import log_sql as sql
from agent_svc.repositories.log_pool import LogPool, Row
from agent_svc.repositories.message_content import message_from_row
from chassis import ids

_INDEX_BATCH = 200


class PostgresEventLog:
    """Implements interfaces.run_log.EventLog."""

    def __init__(self, pool: LogPool) -> None:
        self._pool = pool

    async def head(self, organization_id: UUID, conversation_id: UUID) -> LogHead:
        (rows, *_) = await self._pool.tenant(organization_id, [sql.HEAD], {"conversation": conversation_id})
        return _head(rows, conversation_id)

    async def events(
        self, organization_id: UUID, conversation_id: UUID, after_seq: int, limit: int
    ) -> tuple[LogHead, list[EventFrame]]:
        values = {"conversation": conversation_id, "after": after_seq, "limit": limit}
        head, rows = await self._pool.tenant(organization_id, [sql.HEAD, sql.EVENTS], values)
        frames = [EventFrame(seq, run_id, epoch, EventType(kind), body) for seq, run_id, epoch, kind, body in rows]
        return _head(head, conversation_id), frames


class PostgresIndexLog:
    """Implements interfaces.run_log.IndexLog."""

    def __init__(self, pool: LogPool) -> None:
        self._pool = pool

    async def unindexed(self, organization_id: UUID, conversation_ids: Sequence[UUID]) -> Sequence[Unindexed]:
        values = {"conversations": list(conversation_ids), "limit": _INDEX_BATCH}
        (rows,) = await self._pool.tenant(organization_id, [sql.UNINDEXED], values)
        return [_unindexed(list(group)) for _, group in groupby(rows, key=lambda row: row[0])]

    async def mark_indexed(self, organization_id: UUID, indexed: Sequence[Unindexed]) -> None:
        values = {
            "conversations": [one.conversation_id for one in indexed],
            "seqs": [one.through_seq for one in indexed],
        }
        await self._pool.tenant(organization_id, [sql.MARK_INDEXED, sql.FORGET_DONE], values)


def _unindexed(rows: list[Row]) -> Unindexed:
    conversation_id, agent_id, message_seq = rows[0][:3]
    messages = tuple(message_from_row(row[3:]) for row in rows if row[3] is not None)
    through_seq = messages[-1].seq if messages else message_seq
    return Unindexed(conversation_id, agent_id, through_seq, through_seq < message_seq, messages)


def _head(rows: list[Row], conversation_id: UUID) -> LogHead:
    if not rows:
        raise ids.absent("conv", conversation_id)
    head_seq, owner, run_id = rows[0]
    return LogHead(head_seq, (owner or "").partition(" ")[0], run_id)
