"""The agent loop: decide what the persisted messages ask for, do it, persist it, until the run has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from agent_svc.domain.agent import Agent
from agent_svc.domain.conversation import Message
from agent_svc.domain.decision import AskApproval, CallModel, ExecuteTools, Finish, decide
from agent_svc.domain.event import EventPayload, MessageCompleted, RunFailed, RunSucceeded
from agent_svc.domain.log import Committed, Ending, Fenced, Turn
from agent_svc.domain.memory_tools import BUILT_IN_BY_NAME, BUILT_IN_TOOLS
from agent_svc.domain.model import StopReason
from agent_svc.domain.run import RunError, RunState, RunStopReason
from agent_svc.domain.tool import Tool
from agent_svc.interfaces.identities import Identities
from agent_svc.managers.answers import Answers
from agent_svc.managers.approvals import ask_approval
from agent_svc.managers.caches import AgentCache, ToolCache
from agent_svc.managers.model_choice import ModelChoice
from agent_svc.managers.model_step import Draft
from agent_svc.managers.patience import Patience
from agent_svc.managers.progress import Progress
from agent_svc.managers.rulings import Rulings
from agent_svc.managers.run_errors import (
    NOT_ACTIVE,
    STEP_LIMIT,
    TIME_LIMIT,
    TOKEN_LIMIT,
    WITHHELD,
    GivenUp,
    cannot_keep_rules,
    does_not_match,
    run_error,
)
from agent_svc.managers.run_writer import LogAway, RunWriter
from agent_svc.managers.tool_runner import ToolRunner
from chassis import ids
from chassis.identity import Identity, use
from chassis.revocations import Revocations

_log = logging.getLogger(__name__)

# A run that so many workers took without ending it probably kills them.
MAX_CLAIMS = 10
# Newest messages that are looked at of a conversation that is not compacted: what a long one costs per turn stays bounded.
MAX_CONTEXT_MESSAGES = 300
_IDENTITY_TIMEOUT_S = 5.0
_TOOLS_TIMEOUT_S = 5.0
_STOPPED = {
    StopReason.MAX_TOKENS: RunStopReason.OUTPUT_LIMIT,
    StopReason.CONTENT_FILTER: RunStopReason.CONTENT_FILTER,
}


def _looked_at(agent: Agent, history: Sequence[Message]) -> Sequence[Message]:
    return history[-MAX_CONTEXT_MESSAGES:] if agent.settings.compaction.enabled is False else history


class RunLoop:
    """Works off one run at a time, whatever state a worker before it left it in."""

    def __init__(
        self,
        writer: RunWriter,
        answers: Answers,
        tool_runner: ToolRunner,
        choice: ModelChoice,
        agents: AgentCache,
        tools: ToolCache,
        identities: Identities,
        rulings: Rulings,
        patience: Patience,
        run_timeout_s: float,
        revocations: Revocations,
    ) -> None:
        self._writer = writer
        self._answers = answers
        self._tool_runner = tool_runner
        self._choice = choice
        self._agents = agents
        self._tools = tools
        self._identities = identities
        self._rulings = rulings
        self._patience = patience
        self._run_timeout_s = run_timeout_s
        self._revocations = revocations

    async def work(self, turn: Turn, history: Sequence[Message]) -> Committed:
        """Ends the run, or leaves it waiting for somebody outside, and says how many runs of the conversation are left.

        Raises Fenced or LogAway when the log cannot be written (the run goes on with the next worker), and passes on
        cancellation; nothing is written then.
        """
        progress: Progress | None = None
        limit = asyncio.timeout(self._run_timeout_s)
        revoked = asyncio.Event()
        forget: Callable[[], None] | None = None
        try:
            async with limit:
                try:
                    identity = await self._identity(turn)
                    forget = self._revocations.when_void(identity, lambda: _end(limit, revoked))
                    progress = await self._begin(turn, history, identity)
                    _limit_time(limit, turn, progress.agent.settings.max_run_seconds)
                    return await self._loop(progress)
                except (Fenced, LogAway):
                    raise
                except Exception as error:
                    problem = run_error(error)
                    if problem.reason == "INTERNAL":
                        _log.exception("a run failed", extra={"run": ids.encode("run", turn.run.id)})
        except TimeoutError:
            if not limit.expired():
                raise
            if revoked.is_set():
                return await self._fail(turn, progress, NOT_ACTIVE, RunStopReason.ERROR)
            return await self._fail(turn, progress, TIME_LIMIT, RunStopReason.TIME_LIMIT)
        finally:
            if forget is not None:
                forget()
        return await self._fail(turn, progress, problem, RunStopReason.ERROR)

    async def _begin(self, turn: Turn, history: Sequence[Message], identity: Identity) -> Progress:
        run = turn.run
        if turn.claims > MAX_CLAIMS:
            raise GivenUp
        agent = await self._agents.get(run.organization_id, run.agent_id, turn.agent_version)
        with use(identity):
            begun = await self._choice.begin(agent)
            tools: list[Tool] = []
            if begun.model.capabilities.supports_tools:
                tools = await self._patience.with_retries(
                    lambda: self._offered(agent.tool_ids), timeout_s=_TOOLS_TIMEOUT_S
                )
        return Progress(
            turn=turn,
            history=[message for message in _looked_at(agent, history) if message.run_seq <= run.first_seq],
            agent=agent,
            model=begun.model,
            tools=tools,
            tools_tokens=sum(tool.tokens for tool in tools),
            message_id=turn.message_id,
            attempt=turn.attempt,
            steps=run.steps,
            usage=run.usage,
            ledger=dict(turn.ledger),
            restart_due=turn.taken_over,
            model_name=begun.name,
            fallbacks=begun.fallbacks,
        )

    async def _identity(self, turn: Turn) -> Identity:
        """Asked for again at each step: it is kept, and renewed before it expires."""
        return await self._patience.with_retries(
            lambda: self._identities.identity_for(turn.run.organization_id, turn.user), timeout_s=_IDENTITY_TIMEOUT_S
        )

    async def _offered(self, tool_ids: Sequence[UUID]) -> list[Tool]:
        """The built-in tools, and the agent's own that do not bear the name of one."""
        own = await self._tools.get_many(tool_ids) if tool_ids else []
        return [*BUILT_IN_TOOLS, *(tool for tool in own if tool.name not in BUILT_IN_BY_NAME)]

    async def _loop(self, progress: Progress) -> Committed:
        turn = progress.turn
        while True:
            if progress.agent.tool_rules:
                await self._rulings.renew(progress)
            action = decide(
                progress.own,
                progress.ledger,
                steps=progress.steps,
                max_steps=progress.agent.settings.max_steps_or_default,
                tokens_left=progress.tokens_left,
                ruling=progress.ruling,
                gate=progress.gate,
                in_order=not progress.calls_at_once,
            )
            match action:
                case CallModel(step):
                    with use(await self._identity(turn)):
                        committed = await self._call_model(progress, step)
                    if committed is not None:
                        return committed
                case ExecuteTools(message, calls):
                    with use(await self._identity(turn)):
                        await self._tool_runner.run(progress, message, calls)
                    for done in calls:
                        progress.ledger.pop(done.call.id, None)
                case AskApproval(message, calls):
                    return await ask_approval(self._writer, progress, message, calls)
                case Finish(RunStopReason.STEP_LIMIT):
                    return await self._fail(turn, progress, STEP_LIMIT, RunStopReason.STEP_LIMIT)
                case Finish(RunStopReason.TOKEN_LIMIT):
                    return await self._fail(turn, progress, TOKEN_LIMIT, RunStopReason.TOKEN_LIMIT)
                case Finish(RunStopReason.ERROR):
                    return await self._fail(turn, progress, cannot_keep_rules(progress.ruling), RunStopReason.ERROR)
                case Finish(stop_reason):
                    return await self._succeed(progress, stop_reason)

    async def _call_model(self, progress: Progress, step: int) -> Committed | None:
        """One step; None when the run goes on."""
        return await self._keep(progress, await self._answers.get(progress, step))

    async def _keep(self, progress: Progress, draft: Draft) -> Committed | None:
        """Writes the step; with the last answer, also the run's end."""
        progress.steps = draft.step.step
        progress.usage = progress.usage.plus(draft.step.usage)
        events: list[EventPayload] = [MessageCompleted(draft.message)]
        if draft.message.tool_calls:
            begun, starts = self._tool_runner.starts(progress, draft.message)
            progress.message_id, progress.attempt = ids.new(), 1
            await self._writer.write(
                progress.turn,
                progress.history,
                [*events, *begun],
                step=draft.step,
                ledger_starts=starts,
                next_message_id=progress.message_id,
                attempt=1,
            )
            return None
        owed = progress.ruling is not None and progress.ruling.owed
        if owed and draft.finished.stop_reason is not StopReason.CONTENT_FILTER:
            # Kept, so that whoever goes on sees that this model was asked, but not the end.
            progress.message_id, progress.attempt = ids.new(), 1
            await self._writer.write(
                progress.turn,
                progress.history,
                events,
                step=draft.step,
                next_message_id=progress.message_id,
                attempt=1,
            )
            return None
        stop_reason = _STOPPED.get(draft.finished.stop_reason, RunStopReason.FINAL_ANSWER)
        if stop_reason is RunStopReason.CONTENT_FILTER:
            ending = Ending(RunState.FAILED, stop_reason, WITHHELD)
            events.append(RunFailed(stop_reason, WITHHELD, progress.usage))
        elif draft.problem and not progress.tokens_left and progress.correction is None:
            ending = Ending(RunState.FAILED, RunStopReason.TOKEN_LIMIT, TOKEN_LIMIT)
            events.append(RunFailed(RunStopReason.TOKEN_LIMIT, TOKEN_LIMIT, progress.usage))
        elif draft.problem:
            error = does_not_match(draft.problem)
            ending = Ending(RunState.FAILED, RunStopReason.ERROR, error)
            events.append(RunFailed(RunStopReason.ERROR, error, progress.usage))
        else:
            ending = Ending(RunState.SUCCEEDED, stop_reason)
            events.append(RunSucceeded(stop_reason, progress.usage))
        return await self._writer.write(progress.turn, progress.history, events, step=draft.step, ending=ending)

    async def _succeed(self, progress: Progress, stop_reason: RunStopReason) -> Committed:
        event = RunSucceeded(stop_reason, progress.usage)
        ending = Ending(RunState.SUCCEEDED, stop_reason)
        return await self._writer.write(progress.turn, progress.history, [event], ending=ending)

    async def _fail(
        self, turn: Turn, progress: Progress | None, error: RunError, stop_reason: RunStopReason
    ) -> Committed:
        usage = progress.usage if progress is not None else turn.run.usage
        event = RunFailed(stop_reason, error, usage)
        ending = Ending(RunState.FAILED, stop_reason, error)
        return await self._writer.write(turn, progress.history if progress else [], [event], ending=ending)


def _limit_time(limit: asyncio.Timeout, turn: Turn, max_run_seconds: int | None) -> None:
    """The agent's own limit, counted from when a first worker took the run, whichever that was; anew after an approval."""
    if max_run_seconds is None or limit.expired():
        return
    now = datetime.now(UTC)
    since = now if turn.rulings else turn.run.start_time or now
    left_s = max_run_seconds - (now - since).total_seconds()
    at = asyncio.get_running_loop().time() + max(0.0, left_s)
    limit.reschedule(min(at, limit.when() or at))


def _end(limit: asyncio.Timeout, revoked: asyncio.Event) -> None:
    """The run's organization was disabled or deleted: what it waits for is not waited for any more."""
    if not limit.expired():
        revoked.set()
        limit.reschedule(asyncio.get_running_loop().time())
