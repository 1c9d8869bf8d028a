"""From a step that calls for the model to an answer worth keeping: begun again, asked elsewhere, or sent back once."""

from __future__ import annotations

import asyncio

from agent_svc.domain.event import StepRestarted
from agent_svc.domain.model import ContextOverflow, ModelError, StopReason
from agent_svc.domain.output_schema import mismatch
from agent_svc.managers.model_choice import ModelChoice
from agent_svc.managers.model_step import BrokenOff, Draft, ModelStep, NoRoom
from agent_svc.managers.progress import Correction, Progress
from agent_svc.managers.run_writer import RunWriter

# A message that broke off after watchers saw some of it is begun again this often by one worker, then by another model.
MAX_RESTARTS = 2
# Seconds before the first of them; doubled before the next.
_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 20.0
# When the provider says that the context is too long, although the estimate said that it fits.
_OVERFLOW_SHARES = (1.0, 0.6, 0.35)


class Answers:
    """Gets one answer for a run. What watchers have seen of a failed try is taken back by a step_restarted event."""

    def __init__(self, writer: RunWriter, step: ModelStep, choice: ModelChoice) -> None:
        self._writer = writer
        self._step = step
        self._choice = choice

    async def get(self, progress: Progress, step: int) -> Draft:
        """Raises ModelError when no model gives an answer. `draft.problem` says what is wrong with one that was corrected."""
        if progress.restart_due:
            await self._restart(progress, "another worker goes on with it")
        restarts = 0
        while True:
            try:
                draft = await self._step.run(progress, step)
            except NoRoom:
                raise
            except ContextOverflow:
                if not _shrink(progress):
                    raise
            except BrokenOff as broken:
                cause = broken.cause
                if isinstance(cause, ContextOverflow) and _shrink(progress):
                    await self._again(progress, cause.message)
                    continue
                if not isinstance(cause, ModelError):
                    raise cause from broken
                restarts += 1
                if restarts > MAX_RESTARTS or not cause.retryable:
                    if not await self._choice.go_on(progress, cause):
                        raise cause from broken
                    restarts = 0
                else:
                    await asyncio.sleep(_pause_s(restarts, cause))
                await self._again(progress, cause.message)
            except ModelError as error:
                if not await self._choice.go_on(progress, error):
                    raise
            else:
                draft.problem = await _problem(progress, draft)
                if not draft.problem or progress.correction is not None:
                    return draft
                if not progress.tokens_left_after(draft.step.usage):
                    return draft
                progress.correction = Correction(draft.message.text, draft.problem, draft.step.usage)
                await self._again(progress, f"the answer does not match the asked-for schema: {draft.problem}")

    async def _again(self, progress: Progress, cause: str) -> None:
        progress.attempt += 1
        await self._restart(progress, cause)

    async def _restart(self, progress: Progress, cause: str) -> None:
        """Tells watchers to drop what they have of the message that begins again."""
        progress.restart_due = False
        event = StepRestarted(progress.message_id, progress.attempt, cause)
        await self._writer.write(progress.turn, progress.history, [event], attempt=progress.attempt)


def _shrink(progress: Progress) -> bool:
    """Goes on with less context, older messages summed up; False when that was done twice."""
    smaller = [share for share in _OVERFLOW_SHARES if share < progress.window_share]
    if not smaller:
        return False
    progress.window_share, progress.compaction_forced = smaller[0], True
    return True


async def _problem(progress: Progress, draft: Draft) -> str:
    """How the final answer breaks the run's schema; empty if it does not, or is not the final answer.

    Checked beside the event loop: a tenant's schema may take its time.
    """
    schema = progress.output_schema
    owed = progress.ruling is not None and progress.ruling.owed
    if schema is None or owed or draft.message.tool_calls or draft.finished.stop_reason is StopReason.CONTENT_FILTER:
        return ""
    return await asyncio.to_thread(mismatch, schema, draft.message.text)


def _pause_s(restarts: int, cause: ModelError) -> float:
    asked: float = getattr(cause, "retry_after_s", None) or 0.0
    return min(max(asked, _PAUSE_S * 2 ** (restarts - 1)), _LONGEST_PAUSE_S)
