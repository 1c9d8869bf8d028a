"""Decoder of one OpenAI chat-completions answer, streamed or not, in all the ways in which servers write it."""

from __future__ import annotations

import msgspec

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.assembly import Assembly
from agent_svc.adapters.models.openai_wire import Chunk, Delta, Part, ToolCallPart, decode_chunk, stop_reason
from agent_svc.adapters.models.sse import SseOverflow, SseParser
from agent_svc.domain.model import ModelEvent


class ChatDecoder:
    """See streaming.Decoder.

    `server` and `model` are for messages; `content_type` tells a stream from a whole answer; `origin` is what a Proof names.
    """

    def __init__(self, server: str, model: str, content_type: str = "text/event-stream", origin: str = "") -> None:
        if content_type == "text/html":
            raise failures.garbage(server, "a web page. Check the configured URL")
        self.answered = False
        self.over = False
        self._server = server
        self._model = model
        self._whole: list[bytes] | None = [] if content_type == "application/json" else None
        self._parser = SseParser()
        self._assembly = Assembly(origin)
        self._finish_reason = ""
        self._done = False

    def feed(self, chunk: bytes) -> list[ModelEvent]:
        """See streaming.Decoder."""
        take = self._take
        for payload in self._payloads(chunk):
            take(payload)
            if self._done:
                break
        events = self._assembly.drain()
        if self._done or not chunk:
            events.append(self._finish())
        return events

    def _payloads(self, chunk: bytes) -> list[bytes]:
        if self._whole is not None:
            self._whole.append(chunk)
            return [] if chunk else [b"".join(self._whole), b"[DONE]"]
        try:
            return self._parser.feed(chunk) if chunk else self._parser.flush()
        except SseOverflow:
            raise failures.garbage(self._server, "one event without end") from None

    def _take(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._done = True
            return
        try:
            chunk = decode_chunk(payload)
        except (ValueError, RecursionError):
            raise failures.garbage(self._server, failures.quoted(payload)) from None
        if chunk.choices:
            choice = chunk.choices[0]
            delta = choice.delta or choice.message
            if delta is not None:
                self._take_delta(delta)
            if choice.finish_reason:
                self._take_finish_reason(choice.finish_reason, chunk)
        if chunk.usage is not None:
            self._assembly.usage = chunk.usage.to_domain()
        if chunk.error is not None:
            raise failures.from_error_object(self._server, self._model, chunk.error)
        if chunk.object == "error":
            raise failures.from_error_object(self._server, self._model, chunk.message or "")

    def _take_delta(self, delta: Delta) -> None:
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning:
            self._assembly.reasoning(reasoning)
            self._assembly.proof.reasoning_field = "reasoning_content" if delta.reasoning_content else "reasoning"
        if delta.reasoning_details:
            self._assembly.proof.add_details(delta.reasoning_details)
        content = delta.content
        if content:
            if isinstance(content, str):
                self._assembly.text(content)
            else:
                self._take_parts(content)
        if delta.refusal:
            self._assembly.text(delta.refusal)
        for part in delta.tool_calls or ():
            self._take_tool_call(part)

    def _take_parts(self, parts: list[Part]) -> None:
        for part in parts:
            if part.text:
                self._assembly.text(part.text)
            for thought in part.thinking or ():
                if thought.text:
                    self._assembly.reasoning(thought.text)

    def _take_tool_call(self, part: ToolCallPart) -> None:
        function = part.function
        name, arguments = (function.name, function.arguments) if function else (None, None)
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        place = self._assembly.tool_call(part.index, part.id or "", name or "", arguments or "")
        if part.extra_content:
            self._assembly.proof.calls[place] = part.extra_content

    def _take_finish_reason(self, finish_reason: str, chunk: Chunk) -> None:
        if finish_reason == "error":
            raise failures.from_error_object(self._server, self._model, chunk.error or "")
        self._finish_reason = self._finish_reason or finish_reason
        self.answered = True

    def _finish(self) -> ModelEvent:
        if not self.answered:
            if self._assembly.is_empty:
                raise failures.garbage(self._server, "an empty answer")
            if not self._done:
                raise failures.broke_off(self._server)
        self.over = True
        return self._assembly.finished(stop_reason(self._finish_reason))
