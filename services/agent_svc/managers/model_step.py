"""One step of a run: the prompt, the model's answer as it streams, and what is to be kept of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agent_svc.domain.compaction import plan
from agent_svc.domain.conversation import Message, MessageRole, storable_text
from agent_svc.domain.delta import PartialMessage
from agent_svc.domain.history import Window, fit, in_model_order
from agent_svc.domain.model import (
    AssistantMessage,
    ContextOverflow,
    ModelFinished,
    ModelProtocolError,
    ModelRequest,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolChoice,
    UserMessage,
)
from agent_svc.domain.prompt import Prompt, build, notes, system_text, tokens_around
from agent_svc.domain.run import ContextTokens, RunStep, TokenCount
from agent_svc.domain.tokens import OVERHEAD_TOKENS, estimate_tokens
from agent_svc.interfaces.memory import ContextCompiler
from agent_svc.managers.compactor import Compactor
from agent_svc.managers.delta_pump import DeltaPump
from agent_svc.managers.hub import Hub
from agent_svc.managers.live_runs import LiveRuns
from agent_svc.managers.patience import Patience
from agent_svc.managers.progress import Progress
from agent_svc.managers.window import answer_tokens, window_tokens
from chassis.failpoints import failpoint

_log = logging.getLogger(__name__)

# In windows up to this size the answer is limited to what was kept free for it.
_SMALL_WINDOW_TOKENS = 16_384
_MIN_HISTORY_TOKENS = 128
_COMPILE_TIMEOUT_S = 2.0
_CORRECTION = (
    "[Not from the user: your answer does not match the JSON Schema that was asked for: {problem}. "
    "Answer again with nothing but one JSON object that matches it.]"
)


@dataclass(slots=True)
class Draft:
    """What a model call gave: the message to store, the record of the step, and why the model stopped.

    `problem` is how it breaks the form that the run's answer shall have; empty if it does not.
    """

    message: Message
    step: RunStep
    finished: ModelFinished
    problem: str = ""


class BrokenOff(Exception):
    """The model's stream failed after some of it had been sent to watchers. `cause` says how."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class NoRoom(ContextOverflow):
    """Instructions, memory and tools leave no room for the conversation in the window, by our own estimate."""


class ModelStep:
    """Makes one model call for a run."""

    def __init__(
        self, compiler: ContextCompiler, compactor: Compactor, hub: Hub, live: LiveRuns, patience: Patience
    ) -> None:
        self._compiler = compiler
        self._compactor = compactor
        self._hub = hub
        self._live = live
        self._patience = patience

    async def run(self, progress: Progress, step: int) -> Draft:
        """Calls the model, after older messages became a summary if the conversation is too long.

        Raises ModelError (NoRoom) before anything was sent to watchers, BrokenOff after.
        """
        prompt, window = await self._prompt(progress)
        tokens = _sections(progress, prompt, window)
        if tokens.sent > tokens.window - tokens.answer // 4:
            raise NoRoom(
                f"Instructions, memory, tools and the newest messages take {tokens.sent} tokens of a context of {tokens.window}."
            )
        finished = await self._stream(progress, _request(progress, prompt, tokens))
        message = Message(
            id=progress.message_id,
            run_id=progress.turn.run.id,
            run_seq=progress.turn.run.first_seq,
            role=MessageRole.ASSISTANT,
            text=storable_text(finished.text),
            create_time=datetime.now(UTC),
            reasoning=storable_text(finished.reasoning),
            reasoning_signature=storable_text(finished.reasoning_signature),
            tool_calls=_named_calls(finished.tool_calls, progress.own),
        )
        return Draft(message, _record(progress, step, prompt, window, tokens, finished), finished)

    async def _prompt(self, progress: Progress) -> tuple[Prompt, Window]:
        agent = progress.agent
        ordered = in_model_order(progress.history)
        size = window_tokens(progress)
        free = size - answer_tokens(size) - progress.tools_tokens
        recall = max(0, min(agent.settings.recall_tokens, free // 4))
        if progress.memory is None:
            # Recall leaves out what will be in the context anyway: a first guess, before core memory's size is known.
            guess = free - recall - estimate_tokens(agent.instructions)
            oldest = _oldest_seq(fit(ordered, max(_MIN_HISTORY_TOKENS, guess))) if recall else 0
            progress.memory = await self._patience.with_retries(
                lambda: self._compiler.compile(
                    agent.id,
                    progress.turn.run.conversation_id,
                    progress.input_text if recall else "",
                    recall_tokens=recall,
                    exclude_from_seq=oldest,
                ),
                timeout_s=_COMPILE_TIMEOUT_S,
            )
        system = system_text(agent.instructions, progress.memory)
        now = _local_time(progress.began, agent.settings.time_zone)
        recalled = progress.memory.recalled
        used = tokens_around(system, notes(now, recalled)) + _tokens_behind(progress)
        room = max(_MIN_HISTORY_TOKENS, free - used)
        due = plan(ordered, room, agent.settings.compaction, forced=progress.compaction_forced)
        progress.compaction_forced = False
        if due is not None:
            await self._compactor.compact(progress, due, size)
            ordered = in_model_order(progress.history)
        window = fit(ordered, room)
        return build(system, recalled, window, now), window

    async def _stream(self, progress: Progress, request: ModelRequest) -> ModelFinished:
        turn = progress.turn
        partial = PartialMessage(turn.run.id, progress.message_id, progress.attempt)
        finished: ModelFinished | None = None
        sent = False
        try:
            async with (
                aclosing(progress.model.provider.stream(request)) as events,
                DeltaPump(self._hub, self._live, turn.lease.conversation_id, partial) as pump,
            ):
                async for event in events:
                    if isinstance(event, (TextDelta, ReasoningDelta)):
                        await failpoint("model.streaming")
                        sent = True
                        await pump.add(storable_text(event.text), reasoning=isinstance(event, ReasoningDelta))
                    elif isinstance(event, ModelFinished):
                        finished = event
        except Exception as error:
            if sent:
                raise BrokenOff(error) from error
            raise
        if finished is None:
            raise ModelProtocolError("The model's answer broke off.")
        return finished


def _oldest_seq(window: Window) -> int:
    """The oldest of the messages that follow each other without a gap."""
    rest = [message for message in window.messages if message.role is not MessageRole.SUMMARY]
    return min((message.seq for message in rest[1 if window.pinned else 0 :] if message.seq), default=0)


def _request(progress: Progress, prompt: Prompt, tokens: ContextTokens) -> ModelRequest:
    settings = progress.agent.settings
    must_call = _tool_choice(progress) is ToolChoice.REQUIRED
    limit = settings.max_output_tokens
    if limit is None and tokens.window <= _SMALL_WINDOW_TOKENS:
        limit = min(tokens.answer, tokens.window - tokens.sent)
    return ModelRequest(
        model=progress.model.provider_model,
        messages=(*prompt.messages, *_reminder(progress), *_sent_back(progress)),
        # Without any that may be called, still what they are: earlier calls of theirs are in the messages.
        tools=tuple(tool.spec for tool in progress.offered or progress.tools),
        tool_choice=_tool_choice(progress),
        parallel_tool_calls=settings.parallel_tool_calls is not False,
        temperature=settings.temperature,
        max_output_tokens=limit,
        reasoning_effort=settings.reasoning_effort or None,
        # What must be a call is no answer yet.
        output_schema=None if must_call else progress.output_schema,
    )


def _tool_choice(progress: Progress) -> ToolChoice:
    if progress.ruling is None:
        return ToolChoice.AUTO
    if not progress.ruling.allowed:
        return ToolChoice.NONE
    return ToolChoice.REQUIRED if progress.ruling.must_call else ToolChoice.AUTO


def _reminder(progress: Progress) -> tuple[UserMessage, ...]:
    """What a model that has answered too early is told; not stored."""
    if progress.ruling is None or not progress.ruling.reminder:
        return ()
    return (UserMessage(progress.ruling.reminder),)


def _sent_back(progress: Progress) -> tuple[AssistantMessage | UserMessage, ...]:
    """The answer that did not match and what was wrong with it; neither is stored."""
    if progress.correction is None:
        return ()
    said = UserMessage(_CORRECTION.format(problem=progress.correction.problem))
    return AssistantMessage(progress.correction.answer or "(empty)"), said


def _tokens_behind(progress: Progress) -> int:
    """Estimated tokens of what is asked behind the history: a reminder, a correction, and the form that the answer shall have."""
    tokens = 0
    for message in (*_reminder(progress), *_sent_back(progress)):
        tokens += OVERHEAD_TOKENS + estimate_tokens(message.text)
    return tokens + estimate_tokens(progress.output_schema_text) if progress.output_schema_text else tokens


def _sections(progress: Progress, prompt: Prompt, window: Window) -> ContextTokens:
    run_id = progress.turn.run.id
    size = window_tokens(progress)
    instructions = estimate_tokens(progress.agent.instructions)
    core = estimate_tokens(prompt.system_text) - instructions
    summary = sum(message.tokens for message in window.messages if message.role is MessageRole.SUMMARY)
    said = sum(m.tokens for m in window.messages if m.role is MessageRole.USER and m.run_id == run_id)
    return ContextTokens(
        instructions=instructions,
        core_memory=core,
        recalled=prompt.estimated_tokens - instructions - core - window.tokens,
        tools=progress.tools_tokens,
        summary=summary,
        history=window.tokens - summary - said + _tokens_behind(progress),
        input=said,
        window=size,
        answer=answer_tokens(size),
    )


def _record(
    progress: Progress, step: int, prompt: Prompt, window: Window, tokens: ContextTokens, finished: ModelFinished
) -> RunStep:
    kept = [message for message in window.messages if message.seq and message.role is not MessageRole.SUMMARY]
    pinned = kept[0].seq if window.pinned and kept else 0
    rest = kept[1:] if pinned else kept
    usage = TokenCount(finished.usage.input_tokens, finished.usage.output_tokens, finished.usage.cached_input_tokens)
    if not finished.usage.reported and progress.agent.settings.max_run_tokens is not None:
        usage = TokenCount(prompt.estimated_tokens + progress.tools_tokens, _estimated_output(finished))
    if progress.correction is not None:
        usage = usage.plus(progress.correction.usage)
    return RunStep(
        step=step,
        message_id=progress.message_id,
        model=progress.model.name,
        system_text=prompt.system_text,
        recalled_text=prompt.recalled_text,
        from_run_seq=rest[0].run_seq if rest else 0,
        from_seq=rest[0].seq if rest else 0,
        through_seq=max((message.seq for message in window.messages), default=0),
        pinned_seq=pinned,
        tool_names=tuple(tool.name for tool in progress.offered),
        estimated_tokens=tokens.sent,
        usage=usage,
        tokens=tokens,
    )


def _estimated_output(finished: ModelFinished) -> int:
    texts = [finished.text, finished.reasoning, *(call.arguments_json for call in finished.tool_calls)]
    return sum(map(estimate_tokens, texts))


def _named_calls(calls: Sequence[ToolCall], own: Sequence[Message]) -> tuple[ToolCall, ...]:
    """The calls under ids that are unique in the run: some servers leave them out, or count from 0 in every answer."""
    taken = {call.id for message in own for call in message.tool_calls}
    named: list[ToolCall] = []
    for call in calls:
        name, count = storable_text(call.id) or "call", 1
        unique = name
        while not unique or unique in taken or unique == "call":
            unique = f"{name}_{count}"
            count += 1
        taken.add(unique)
        named.append(
            replace(call, id=unique, name=storable_text(call.name), arguments_json=storable_text(call.arguments_json))
        )
    return tuple(named)


def _local_time(time: datetime, time_zone: str | None) -> datetime:
    if time_zone:
        try:
            return time.astimezone(ZoneInfo(time_zone))
        except (ZoneInfoNotFoundError, ValueError):
            _log.debug("unknown time zone %r", time_zone)
    return time
