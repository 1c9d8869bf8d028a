"""Writes the summary that takes the place of older messages, by a model or, when that fails, by cutting."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent_svc.domain.compaction import Plan, request_messages, without_model
from agent_svc.domain.conversation import Message, MessageRole, storable_text
from agent_svc.domain.event import ContextCompacted, MessageCompleted
from agent_svc.domain.history import shorten
from agent_svc.domain.model import ModelError, ModelFinished, ModelRequest, StopReason, TextDelta
from agent_svc.domain.run import TokenCount
from agent_svc.interfaces.model_provider import ChosenModel, ModelCatalog
from agent_svc.managers.progress import Progress
from agent_svc.managers.run_writer import RunWriter
from agent_svc.managers.window import answer_tokens
from chassis import ids
from chassis.failpoints import failpoint

_log = logging.getLogger(__name__)

# The run waits for its summary; after this long it goes on with what can be cut.
SUMMARY_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Summary:
    text: str
    usage: TokenCount = field(default_factory=TokenCount)
    truncated: bool = False


class Compactor:
    """Sums up for a run. Nothing is kept but what is written, so a worker that dies is followed by one that begins again."""

    def __init__(self, writer: RunWriter, models: ModelCatalog) -> None:
        self._writer = writer
        self._models = models

    async def compact(self, progress: Progress, plan: Plan, window: int) -> None:
        """Writes the summary, and adds it to the run's history. `window` is the run's, in tokens. Raises Fenced, LogAway."""
        summary = await self._summary(progress, plan, window)
        run = progress.turn.run
        message = Message(
            id=ids.new(),
            run_id=run.id,
            run_seq=run.first_seq,
            role=MessageRole.SUMMARY,
            text=summary.text,
            create_time=datetime.now(UTC),
            summarized=plan.summarized,
        )
        event = ContextCompacted(
            summary_message_id=message.id,
            from_seq=plan.summarized.from_seq,
            through_seq=plan.summarized.through_seq,
            tokens_before=plan.tokens_before,
            tokens_after=plan.tokens_kept + message.tokens,
            truncated=summary.truncated,
        )
        progress.usage = progress.usage.plus(summary.usage)
        await self._writer.write(
            progress.turn, progress.history, [MessageCompleted(message), event], usage=summary.usage
        )
        await failpoint("summary.written")

    async def _summary(self, progress: Progress, plan: Plan, window: int) -> _Summary:
        try:
            async with asyncio.timeout(SUMMARY_TIMEOUT_S):
                finished = await self._ask(progress, plan, window)
        except ModelError as error:
            _log.warning("a summary could not be written by a model", extra={"reason": str(error)})
            return _Summary(without_model(plan, "the model failed"), truncated=True)
        except TimeoutError:
            _log.warning("a summary took too long")
            return _Summary(without_model(plan, "the model took too long"), truncated=True)
        usage = TokenCount(
            finished.usage.input_tokens, finished.usage.output_tokens, finished.usage.cached_input_tokens
        )
        text = storable_text(finished.text).strip()
        if not text or finished.stop_reason is StopReason.CONTENT_FILTER:
            return _Summary(without_model(plan, "the model wrote none"), usage, truncated=True)
        return _Summary(shorten(text, plan.tokens), usage)

    async def _ask(self, progress: Progress, plan: Plan, window: int) -> ModelFinished:
        """Raises ModelError, TimeoutError."""
        chosen = await self._chosen(progress)
        if chosen is not progress.model:
            window = chosen.capabilities.context_window or window
        settings = progress.agent.settings
        # More than the summary may have: a model that reasons does that first.
        answer = answer_tokens(window)
        request = ModelRequest(
            model=chosen.provider_model,
            messages=request_messages(plan, window - answer),
            max_output_tokens=answer,
            temperature=settings.temperature if chosen is progress.model else None,
            reasoning_effort=(settings.reasoning_effort or None) if chosen is progress.model else None,
        )
        finished: ModelFinished | None = None
        async with aclosing(chosen.provider.stream(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    await failpoint("summary.streaming")
                elif isinstance(event, ModelFinished):
                    finished = event
        if finished is None:
            raise ModelError("The model's answer broke off.")
        return finished

    async def _chosen(self, progress: Progress) -> ChosenModel:
        """The model that the agent names for summaries if it can be used, else the run's."""
        name = progress.agent.settings.compaction.model
        if not name:
            return progress.model
        try:
            return await self._models.resolve(name)
        except ModelError as error:
            _log.info("the model for summaries cannot be used", extra={"model": name, "reason": str(error)})
            return progress.model
