"""Answers to runs that wait for somebody outside: written once, then the run goes on with any worker."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from agent_svc.domain.approval import Decision
from agent_svc.domain.conversation import storable_text
from agent_svc.domain.event import ApprovalResolved
from agent_svc.domain.log import Dispatch
from agent_svc.domain.run import Run
from agent_svc.interfaces.approvals import ApprovalLog, Resolution
from agent_svc.interfaces.event_bus import EventBus
from agent_svc.interfaces.event_codec import EventCodec
from agent_svc.managers.hub import Hub
from chassis import audit
from chassis.errors import invalid_field
from chassis.failpoints import failpoint
from chassis.identity import Identity

# A dispatch whose message was lost is found by the sweep after this long; at once when there is no NATS to lose it.
_DUE_IN_S = 5.0


class ApprovalManager:
    """Decides about calls that need a person's approval."""

    def __init__(self, log: ApprovalLog, bus: EventBus, hub: Hub, codec: EventCodec) -> None:
        self._log = log
        self._bus = bus
        self._hub = hub
        self._codec = codec

    async def resolve(
        self, caller: Identity, run_id: UUID, approval_id: UUID, arguments_hash: str, decision: Decision
    ) -> Run:
        """Approves or refuses; the same again is OK. `arguments_hash` may be empty to refuse.

        Raises NotFound, InvalidArgument VALIDATION_FAILED, FailedPrecondition RUN_ENDED, APPROVAL_RESOLVED (otherwise before),
        APPROVAL_ARGUMENTS_DIFFER.
        """
        if storable_text(decision.reason) != decision.reason:
            raise invalid_field("reason", "must not contain NUL characters")
        if storable_text(arguments_hash) != arguments_hash:
            raise invalid_field("arguments_hash", "must not contain NUL characters")
        now = datetime.now(UTC)
        run, event = await self._log.resolve(
            Resolution(
                organization_id=caller.organization_id,
                run_id=run_id,
                approval_id=approval_id,
                arguments_hash=arguments_hash,
                decision=decision,
                user=caller.on_behalf_of or caller.subject,
                now=now,
                event=self._codec.encode(ApprovalResolved(approval_id, decision), now),
                due_in_s=_DUE_IN_S if self._bus.connected else 0.0,
            )
        )
        if event is None:
            audit.nothing_new()
            return run
        await failpoint("approval.resolved")
        await self._hub.publish(run.conversation_id, [event])
        await self._bus.publish_dispatch(Dispatch(caller.organization_id, run.conversation_id))
        return run
