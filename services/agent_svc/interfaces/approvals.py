"""Runs that wait for somebody outside: the answers, written as one commit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from agent_svc.domain.approval import Decision
from agent_svc.domain.event import EncodedEvent
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.run import Run


@dataclass(frozen=True, slots=True)
class Resolution:
    """An answer to an approval, of a user (or a service), with its event; the run's dispatch is due in `due_in_s` seconds."""

    organization_id: UUID
    run_id: UUID
    approval_id: UUID
    arguments_hash: str
    decision: Decision
    user: str
    now: datetime
    event: EncodedEvent
    due_in_s: float


class ApprovalLog(Protocol):
    """Writes answers. All raise Unavailable DEPENDENCY_UNAVAILABLE when the database does not answer."""

    async def resolve(self, resolution: Resolution) -> tuple[Run, EventFrame | None]:
        """Decides; the run can be taken again. The event is None when the same was decided before.

        Of several at the same time one wins. Raises NotFound for an unknown run or approval, FailedPrecondition RUN_ENDED,
        APPROVAL_RESOLVED, APPROVAL_ARGUMENTS_DIFFER.
        """
        ...
