"""The log of conversations in PostgreSQL: what the run path writes and reads, one round trip each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from agent_svc.domain.approval import Decision, Ruling, RulingKey
from agent_svc.domain.conversation import Message, ToolCallOutcome
from agent_svc.domain.decision import LedgerEntry
from agent_svc.domain.event import EventType
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.log import (
    CancelledRun,
    Commit,
    Committed,
    Dispatch,
    Fenced,
    Lease,
    NewRun,
    RequestIdTaken,
    Turn,
    TurnAsk,
)
from agent_svc.domain.run import CONCURRENT_RUNS, USER_CONCURRENT_RUNS, Run, RunState
from agent_svc.interfaces.run_log import CancelEvent
from agent_svc.repositories import log_sql as sql
from agent_svc.repositories.audit_values import audit_values
from agent_svc.repositories.commit_sql import commit_statement
from agent_svc.repositories.log_pool import LogPool, Row
from agent_svc.repositories.message_content import RUN_WIDTH, encode_content, message_from_row, run_from_row
from chassis import audit, ids
from chassis.errors import FailedPrecondition, ResourceExhausted
from chassis.limits import quota_exceeded

_RETRY_S = 1.0
# When a conversation is full: a turn takes seconds.
_RETRY_FULL_S = 2.0
_NO_CEILING = 2**62
_REFUSED = FailedPrecondition("the conversation has a run that is not finished", reason="CONVERSATION_BUSY")


class PostgresRunLog:
    """Implements interfaces.run_log.RunLog."""

    def __init__(self, pool: LogPool) -> None:
        self._pool = pool

    async def start(self, new: NewRun) -> Run:
        audit.concerning(ids.encode("run", new.run_id))
        pending = audit.owed()
        values = _start_values(new) | audit_values(pending)
        try:
            rows = (await self._pool.tenant(new.organization_id, [sql.START], values))[0]
        except psycopg.errors.UniqueViolation:
            # The same request id at the same time: the other one won.
            rows = []
        except psycopg.errors.CheckViolation:
            raise await self._which_limit(new) from None
        if not rows:
            raise await self._why_refused(new, values)
        if pending is not None:
            pending.kept()
        head_seq, agent_id = rows[0]
        return Run(
            id=new.run_id,
            organization_id=new.organization_id,
            agent_id=agent_id,
            conversation_id=new.conversation_id,
            state=RunState.QUEUED,
            first_seq=head_seq - 1,
            input_preview=new.preview,
            create_time=new.create_time,
        )

    async def _why_refused(self, new: NewRun, values: Mapping[str, Any]) -> Exception:
        known, earlier = await self._pool.tenant(new.organization_id, [sql.KNOWN, sql.EARLIER], values)
        if not known:
            return ids.absent("conv", new.conversation_id)
        if earlier:
            return RequestIdTaken(run_from_row(earlier[0]), earlier[0][RUN_WIDTH])
        if new.max_open > 1:
            text = f"the conversation has {new.max_open} runs that are not finished"
            return ResourceExhausted(text, reason="RATE_LIMITED", retry_after_s=_RETRY_FULL_S)
        return _REFUSED

    async def _which_limit(self, new: NewRun) -> Exception:
        (rows,) = await self._pool.tenant(new.organization_id, [sql.COUNTS], {"user": new.user})
        counts = dict(rows)
        of_all, of_user = counts.get("", 0), counts.get(new.user, 0)
        name, limit, used = CONCURRENT_RUNS, new.limit, of_all
        if new.user and new.user_limit is not None and of_user >= new.user_limit:
            name, limit, used = USER_CONCURRENT_RUNS, new.user_limit, of_user
        # Somebody's end may have come between; then it is told as it was.
        limit = limit or 0
        return quota_exceeded(name, limit, max(used, limit), retry_after_s=_RETRY_S)

    async def open_total(self, organization_id: UUID) -> int:
        (rows,) = await self._pool.tenant(organization_id, [sql.COUNTS], {"user": ""})
        return rows[0][1] if rows else 0

    async def claim(self, dispatch: Dispatch, ask: TurnAsk) -> Turn | None:
        # Of this claim alone, so that a second one by the same worker finds the lease held.
        owner = f"{ask.owner} {ids.new().hex}"
        values = _turn_values(dispatch.conversation_id, ask) | {"owner": owner}
        statements = [sql.ACQUIRE, sql.TAKE_AFTER_ACQUIRE, sql.HISTORY]
        acquired, taken, history = await self._pool.tenant(dispatch.organization_id, statements, values)
        if not acquired:
            return None
        lease = Lease(dispatch.organization_id, dispatch.conversation_id, acquired[0][0])
        return await self._turn(lease, ask, taken, history)

    async def defer(self, dispatch: Dispatch) -> None:
        values = {"conversation": dispatch.conversation_id}
        await self._pool.tenant(dispatch.organization_id, [sql.DEFER], values)

    async def next_turn(self, lease: Lease, ask: TurnAsk) -> Turn | None:
        values = _turn_values(lease.conversation_id, ask) | {"epoch": lease.epoch}
        statements = [sql.KEEP, sql.TAKE_WHILE_HELD, sql.HISTORY]
        held, taken, history = await self._pool.tenant(lease.organization_id, statements, values)
        if not held:
            raise Fenced
        turn = await self._turn(lease, ask, taken, history)
        if turn is None:
            # Those that waited were cancelled meanwhile: whoever comes next must not wait for this lease to expire.
            await self.release(lease)
        return turn

    async def history(self, lease: Lease, history_tokens: int) -> tuple[Message, ...]:
        values = {"conversation": lease.conversation_id, "history_tokens": history_tokens, "after": 0}
        (rows,) = await self._pool.tenant(lease.organization_id, [sql.HISTORY], values)
        return tuple(message_from_row(row[:7]) for row in rows)

    async def run_messages(self, lease: Lease, run: Run, before_seq: int) -> tuple[Message, ...]:
        values = {"conversation": lease.conversation_id, "run": run.id, "after": run.first_seq, "before": before_seq}
        (rows,) = await self._pool.tenant(lease.organization_id, [sql.RUN_MESSAGES], values)
        return tuple(message_from_row(row) for row in rows)

    async def commit(self, commit: Commit) -> Committed:
        statement, values = commit_statement(commit)
        (rows,) = await self._pool.tenant(commit.lease.organization_id, [statement], values)
        if not rows:
            raise Fenced
        return Committed(*rows[0], waits=commit.waits)

    async def release(self, lease: Lease) -> None:
        values = {"conversation": lease.conversation_id, "epoch": lease.epoch}
        await self._pool.tenant(lease.organization_id, [sql.RELEASE], values)

    async def renew(self, leases: Sequence[Lease]) -> set[UUID]:
        """All of an organization's at once; locks rows in the order of their ids."""
        held: set[UUID] = set()
        by_organization: dict[UUID, list[Lease]] = {}
        for lease in leases:
            by_organization.setdefault(lease.organization_id, []).append(lease)
        for organization_id, group in by_organization.items():
            values = {
                "conversations": [lease.conversation_id for lease in group],
                "epochs": [lease.epoch for lease in group],
            }
            renewed, _ = await self._pool.tenant(organization_id, [sql.RENEW, sql.PUT_OFF], values)
            held.update(row[0] for row in renewed)
        return held

    async def cancel(self, organization_id: UUID, run_id: UUID, now: datetime, event: CancelEvent) -> CancelledRun:
        """Reads the run to encode its final usage, then compares and sets: a step written in between begins it again."""
        pending = audit.owed()
        while True:
            (rows,) = await self._pool.tenant(organization_id, [sql.RUN], {"run": run_id})
            if not rows:
                raise ids.absent("run", run_id)
            run = run_from_row(rows[0])
            if run.state.ended:
                return CancelledRun(run, None, "", more=False)
            body = event(run.usage)
            values = {
                "run": run_id,
                "conversation": run.conversation_id,
                "steps": run.steps,
                "input": run.usage.input_tokens,
                "now": now,
                "type": int(body.type),
                "body": body.body,
            } | audit_values(pending)
            _, done = await self._pool.tenant(organization_id, [sql.LOCK_OF_RUN, sql.CANCEL], values)
            if done:
                if pending is not None:
                    pending.kept()
                return _cancelled(done[0], body.body)

    async def open_runs(self, organization_id: UUID, conversation_id: UUID, before_seq: int) -> Sequence[UUID]:
        values = {"conversation": conversation_id, "before": before_seq}
        (rows,) = await self._pool.tenant(organization_id, [sql.OPEN_RUNS], values)
        return [row[0] for row in rows]

    async def due(self, limit: int) -> Sequence[Dispatch]:
        (rows,) = await self._pool.run([sql.DUE], {"limit": limit})
        return [Dispatch(organization_id, conversation_id) for organization_id, conversation_id in rows]

    async def _turn(self, lease: Lease, ask: TurnAsk, taken: list[Row], history: list[Row]) -> Turn | None:
        if not taken:
            return None
        row = taken[0]
        run = run_from_row(row)
        user, claims, attempt, message_id, head_seq, epoch, agent_version = row[RUN_WIDTH:]
        messages = tuple(message_from_row(row[:7]) for row in history)
        # A run that has made a step and begins again has waited: its claims are counted anew.
        resumed = claims > 1 or run.steps > 0
        return Turn(
            lease=lease,
            run=run,
            user=user,
            taken_over=claims > 1,
            message_id=message_id,
            attempt=attempt,
            claims=claims,
            agent_version=agent_version,
            history=messages,
            cut=_is_cut(messages, ask),
            ledger=await self._ledger(run) if resumed else {},
            rulings=await self._rulings(run) if resumed else {},
            started=EventFrame(head_seq, run.id, epoch, EventType.RUN_STARTED, ask.started.body),
        )

    async def _ledger(self, run: Run) -> dict[str, LedgerEntry]:
        (rows,) = await self._pool.tenant(run.organization_id, [sql.LEDGER], {"run": run.id})
        return {row[0]: LedgerEntry(row[0], ToolCallOutcome(row[1]), row[2]) for row in rows}

    async def _rulings(self, run: Run) -> dict[RulingKey, Ruling]:
        (rows,) = await self._pool.tenant(run.organization_id, [sql.RULINGS], {"run": run.id})
        return {
            (message_id, call_id): Ruling(Decision(approved, reason), version)
            for message_id, call_ids, versions, approved, reason in rows
            for call_id, version in zip(call_ids, versions, strict=True)
        }


def _start_values(new: NewRun) -> dict[str, Any]:
    return {
        "conversation": new.conversation_id,
        "run": new.run_id,
        "user": new.user,
        "request": new.request_id,
        "hash": new.body_hash,
        "preview": new.preview,
        "now": new.create_time,
        "message": new.message.id,
        "tokens": new.message.tokens,
        "content": encode_content(new.message),
        "queued_type": int(new.queued.type),
        "queued": new.queued.body,
        "completed_type": int(new.completed.type),
        "completed": new.completed.body,
        "most": new.max_open,
        "due_in": new.due_in_s,
        "ceiling": _NO_CEILING if new.limit is None else new.limit,
        "ceiling_of_user": _NO_CEILING if new.user_limit is None else new.user_limit,
    }


def _turn_values(conversation_id: UUID, ask: TurnAsk) -> dict[str, Any]:
    return {
        "conversation": conversation_id,
        "now": ask.now,
        "message": ids.new(),
        "started_type": int(ask.started.type),
        "started": ask.started.body,
        "history_tokens": ask.history_tokens,
        "after": ask.after_seq,
    }


def _is_cut(messages: Sequence[Message], ask: TurnAsk) -> bool:
    """Whether a limit was reached, so that there may be older messages than these."""
    if len(messages) >= sql.MAX_HISTORY_MESSAGES:
        return True
    return sum(message.tokens for message in messages) >= ask.history_tokens


def _cancelled(row: Row, body: bytes) -> CancelledRun:
    run = run_from_row(row)
    head_seq, epoch, open_runs, owner = row[RUN_WIDTH:]
    event = EventFrame(head_seq, run.id, epoch, EventType.RUN_CANCELLED, body)
    return CancelledRun(run, event, (owner or "").partition(" ")[0], more=open_runs > 0)
