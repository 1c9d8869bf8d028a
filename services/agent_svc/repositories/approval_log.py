"""Answers to runs that wait, in PostgreSQL."""

from __future__ import annotations

from typing import Any

from agent_svc.domain.event import EventType
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.run import Run
from agent_svc.interfaces.approvals import Resolution
from agent_svc.repositories import approval_sql as sql
from agent_svc.repositories.audit_values import audit_values
from agent_svc.repositories.log_pool import LogPool, Row
from agent_svc.repositories.log_sql import LOCK_OF_RUN
from agent_svc.repositories.log_sql import RUN as READ_RUN
from agent_svc.repositories.message_content import RUN_WIDTH, run_from_row
from chassis import audit, ids
from chassis.errors import FailedPrecondition


class PostgresApprovalLog:
    """Implements interfaces.approvals.ApprovalLog."""

    def __init__(self, pool: LogPool) -> None:
        self._pool = pool

    async def resolve(self, resolution: Resolution) -> tuple[Run, EventFrame | None]:
        pending = audit.owed()
        statements = [LOCK_OF_RUN, sql.RESOLVE, sql.APPROVAL, READ_RUN]
        values = _values(resolution) | audit_values(pending)
        _, resolved, approvals, runs = await self._pool.tenant(resolution.organization_id, statements, values)
        if not runs:
            raise ids.absent("run", resolution.run_id)
        if not approvals:
            raise ids.absent("appr", resolution.approval_id)
        run = run_from_row(runs[0])
        if resolved:
            if pending is not None:
                pending.kept()
            event = resolution.event
            head_seq = resolved[0][RUN_WIDTH]
            return run, EventFrame(head_seq, run.id, 0, EventType.APPROVAL_RESOLVED, event.body)
        _check(resolution, run, approvals[0])
        return run, None


def _check(resolution: Resolution, run: Run, approval: Row) -> None:
    """Nothing was changed: fine if it was decided so before. Raises FailedPrecondition."""
    approved, reason, arguments_hash = approval
    decision = resolution.decision
    if resolution.arguments_hash != arguments_hash and (decision.approved or resolution.arguments_hash):
        raise FailedPrecondition(
            "the approval is for other arguments than those that were agreed to", reason="APPROVAL_ARGUMENTS_DIFFER"
        )
    if approved is None:
        raise FailedPrecondition("the run has ended", reason="RUN_ENDED", metadata={"state": run.state.name})
    if (approved, reason) != (decision.approved, decision.reason):
        text = "the calls were approved before" if approved else "the calls were refused before"
        raise FailedPrecondition(text, reason="APPROVAL_RESOLVED", metadata={"approved": str(approved).lower()})


def _values(resolution: Resolution) -> dict[str, Any]:
    return {
        "run": resolution.run_id,
        "approval": resolution.approval_id,
        "arguments_hash": resolution.arguments_hash,
        "approved": resolution.decision.approved,
        "reason": resolution.decision.reason,
        "user": resolution.user,
        "now": resolution.now,
        "type": int(resolution.event.type),
        "body": resolution.event.body,
        "due_in": resolution.due_in_s,
    }
