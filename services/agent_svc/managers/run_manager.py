"""Runs as callers see them: started, cancelled, looked at."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from agent_svc.domain.conversation import Message, MessageRole, storable_text
from agent_svc.domain.event import EncodedEvent, EventType, MessageCompleted, RunCancelled, RunQueued
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.log import Dispatch, NewRun, RequestIdTaken
from agent_svc.domain.run import (
    CONCURRENT_RUNS,
    MAX_OPEN_RUNS,
    PREVIEW_CHARACTERS,
    USER_CONCURRENT_RUNS,
    BusyPolicy,
    Run,
    RunContext,
    RunState,
    TokenCount,
)
from agent_svc.domain.run_input import NO_EXTRAS, RunExtras
from agent_svc.interfaces.event_bus import EventBus
from agent_svc.interfaces.event_codec import EventCodec
from agent_svc.interfaces.run_log import RunLog
from agent_svc.interfaces.unit_of_work import UnitOfWork
from agent_svc.managers.caches import DefaultConversations
from agent_svc.managers.hub import Hub
from agent_svc.managers.lease import GIVE_UP_AFTER_S
from agent_svc.managers.live_runs import LiveRuns
from chassis import audit, ids
from chassis.errors import FailedPrecondition, InvalidArgument, NotFound, invalid_field
from chassis.failpoints import failpoint
from chassis.identity import Identity, Role
from chassis.limits import Limits
from chassis.once import RequestKey

_log = logging.getLogger(__name__)

# A dispatch whose message was lost is found by the sweep after this long; sooner when there is no NATS to lose it.
_DUE_IN_S = 5.0
# Unfinished runs beside which a new one is accepted. One that interrupts waits behind none of them.
_MAX_OPEN = {BusyPolicy.QUEUE: MAX_OPEN_RUNS, BusyPolicy.REFUSE: 1, BusyPolicy.INTERRUPT: 2**31 - 1}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a message goes: to an agent's default conversation, or to a conversation. Exactly one is set."""

    agent_id: UUID | None = None
    conversation_id: UUID | None = None


class RunManager:
    """Accepts runs and stops them."""

    def __init__(
        self,
        worker_id: str,
        log: RunLog,
        work: UnitOfWork,
        conversations: DefaultConversations,
        bus: EventBus,
        hub: Hub,
        live: LiveRuns,
        codec: EventCodec,
        limits: Limits,
    ) -> None:
        self._worker_id = worker_id
        self._log = log
        self._work = work
        self._conversations = conversations
        self._bus = bus
        self._hub = hub
        self._live = live
        self._codec = codec
        self._limits = limits

    async def conversation_of(self, caller: Identity, target: Target) -> UUID:
        """The conversation that a message goes to. Raises NotFound for an unknown agent."""
        if target.conversation_id is not None:
            return target.conversation_id
        assert target.agent_id is not None
        return await self._conversations.of(caller.organization_id, target.agent_id)

    async def start(
        self,
        caller: Identity,
        target: Target,
        text: str,
        policy: BusyPolicy,
        key: RequestKey | None,
        body_hash: bytes,
        extras: RunExtras = NO_EXTRAS,
    ) -> Run:
        """Accepts a message; once this returns, the run will end, whatever dies.

        Raises NotFound, FailedPrecondition CONVERSATION_BUSY, InvalidArgument (REQUEST_ID_REUSED, VALIDATION_FAILED),
        ResourceExhausted QUOTA_EXCEEDED, and RATE_LIMITED when too many runs of the conversation wait.
        """
        if storable_text(text) != text:
            raise invalid_field("text", "must not contain NUL characters")
        conversation_id = await self.conversation_of(caller, target)
        new = self._new_run(caller, conversation_id, text, policy, key, body_hash, extras)
        try:
            run = await self._log.start(new)
        except RequestIdTaken as taken:
            run = _first_answer(taken, body_hash)
            audit.nothing_new()
            if policy is BusyPolicy.INTERRUPT:
                # The first try may have ended in between.
                await self._interrupt(caller, run)
            return run
        except NotFound:
            if target.agent_id is None:
                raise
            raise ids.absent("agent", target.agent_id) from None
        frames = [
            EventFrame(run.first_seq, run.id, 0, EventType.RUN_QUEUED, new.queued.body),
            EventFrame(run.first_seq + 1, run.id, 0, EventType.MESSAGE_COMPLETED, new.completed.body),
        ]
        await failpoint("run.accepted")
        await self._hub.publish(conversation_id, frames)
        if policy is BusyPolicy.INTERRUPT:
            await self._interrupt(caller, run)
        await self._bus.publish_dispatch(Dispatch(caller.organization_id, conversation_id))
        return run

    def _new_run(
        self,
        caller: Identity,
        conversation_id: UUID,
        text: str,
        policy: BusyPolicy,
        key: RequestKey | None,
        body_hash: bytes,
        extras: RunExtras,
    ) -> NewRun:
        now = datetime.now(UTC)
        run_id = ids.new()
        message = Message(
            ids.new(),
            run_id,
            0,
            MessageRole.USER,
            text,
            now,
            images=extras.images,
            output_schema=extras.output_schema,
        )
        return NewRun(
            run_id=run_id,
            organization_id=caller.organization_id,
            conversation_id=conversation_id,
            user=_user(caller),
            message=message,
            queued=self._codec.encode(RunQueued(), now),
            completed=self._codec.encode(MessageCompleted(message), now),
            preview=text[:PREVIEW_CHARACTERS],
            create_time=now,
            request_id=key.request_id if key else None,
            body_hash=body_hash,
            max_open=_MAX_OPEN[policy],
            due_in_s=_DUE_IN_S if self._bus.connected else 0.0,
            limit=self._limits.of(caller.organization_id, CONCURRENT_RUNS),
            user_limit=self._limits.of(caller.organization_id, USER_CONCURRENT_RUNS),
        )

    async def open_total(self, caller: Identity) -> int:
        """How many runs of the caller's organization have not ended."""
        return await self._log.open_total(caller.organization_id)

    async def _interrupt(self, caller: Identity, run: Run) -> None:
        """Cancels what the conversation had before this run; the newest first, so that none of them gets its turn meanwhile."""
        older = await self._log.open_runs(caller.organization_id, run.conversation_id, run.first_seq)
        for run_id in reversed(older):
            try:
                with audit.aside():
                    await self.cancel(caller, run_id)
            except FailedPrecondition:
                _log.debug("the run ended before it could be interrupted")

    async def cancel(self, caller: Identity, run_id: UUID) -> Run:
        """Ends a run: after this returns no model call or tool call of it starts. Twice is OK.

        Raises NotFound, FailedPrecondition RUN_ENDED.
        """
        cancelled = await self._log.cancel(caller.organization_id, run_id, datetime.now(UTC), self._cancel_event)
        run = cancelled.run
        if cancelled.event is None:
            if run.state is not RunState.CANCELLED:
                raise FailedPrecondition("the run has ended", reason="RUN_ENDED", metadata={"state": run.state.name})
            return run
        await failpoint("cancel.committed")
        await self._stop_owner(cancelled.owner, run_id)
        await self._hub.publish(run.conversation_id, [cancelled.event])
        if cancelled.more:
            await self._bus.publish_dispatch(Dispatch(caller.organization_id, run.conversation_id))
        return run

    def _cancel_event(self, usage: TokenCount) -> EncodedEvent:
        return self._codec.encode(RunCancelled(usage), datetime.now(UTC))

    async def _stop_owner(self, owner: str, run_id: UUID) -> None:
        """The worker is fenced already; it is told, so that it closes its calls at once.

        If it does not answer (NATS is away, or it is dead), it notices at its next renewal at the latest.
        """
        if not owner:
            return
        if owner == self._worker_id:
            self._live.stop(run_id)
        elif not await self._bus.ask_stop(owner, run_id):
            await asyncio.sleep(GIVE_UP_AFTER_S)

    async def get(self, caller: Identity, run_id: UUID) -> Run:
        """Raises NotFound."""
        async with self._work.of(caller.organization_id) as transaction:
            run = await transaction.runs.get(run_id)
        if run is None:
            raise ids.absent("run", run_id)
        return run

    async def page(
        self,
        caller: Identity,
        agent_id: UUID | None,
        conversation_id: UUID | None,
        states: Sequence[int],
        before: UUID | None,
        size: int,
    ) -> tuple[Sequence[Run], bool]:
        """Newest first, and whether there are more."""
        async with self._work.of(caller.organization_id) as transaction:
            found = await transaction.runs.page(agent_id, conversation_id, states, before, size + 1)
        return found[:size], len(found) > size

    async def contexts(self, caller: Identity, run_id: UUID) -> Sequence[RunContext]:
        """What the model saw, step by step. Raises NotFound."""
        async with self._work.of(caller.organization_id) as transaction:
            if await transaction.runs.get(run_id) is None:
                raise ids.absent("run", run_id)
            return await transaction.runs.contexts(run_id)


def _user(caller: Identity) -> str:
    """The person behind a caller, whom background work then acts on behalf of; empty if there is none."""
    if caller.role is Role.SERVICE:
        return caller.on_behalf_of
    return caller.subject if caller.subject.startswith("user_") else ""


def _first_answer(taken: RequestIdTaken, body_hash: bytes) -> Run:
    """What StartRun answered the first time: the run as it was accepted."""
    if taken.body_hash != body_hash:
        raise InvalidArgument("request_id was used before with another body", reason="REQUEST_ID_REUSED") from None
    run = taken.run
    return Run(
        id=run.id,
        organization_id=run.organization_id,
        agent_id=run.agent_id,
        conversation_id=run.conversation_id,
        state=RunState.QUEUED,
        first_seq=run.first_seq,
        input_preview=run.input_preview,
        create_time=run.create_time,
    )
