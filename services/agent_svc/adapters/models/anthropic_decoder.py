"""Decoder of one streamed answer of Anthropic's messages protocol."""

from __future__ import annotations

import msgspec

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.anthropic_wire import (
    Block,
    Delta,
    Event,
    WireUsage,
    decode_event,
    merge_usage,
    stop_reason,
    to_usage,
)
from agent_svc.adapters.models.assembly import Assembly
from agent_svc.adapters.models.sse import SseOverflow, SseParser
from agent_svc.domain.model import ModelEvent


class MessagesDecoder:
    """See streaming.Decoder. `server` and `model` are for messages."""

    def __init__(self, server: str, model: str, content_type: str = "text/event-stream") -> None:
        if content_type in ("text/html", "application/json"):
            raise failures.garbage(server, f"{content_type} instead of a stream")
        self.answered = False
        self.over = False
        self._server = server
        self._model = model
        self._parser = SseParser()
        self._assembly = Assembly()
        self._usage = WireUsage()
        self._stop_reason = ""
        self._own_calls: set[int] = set()
        self._done = False

    def feed(self, chunk: bytes) -> list[ModelEvent]:
        """See streaming.Decoder."""
        try:
            payloads = self._parser.feed(chunk) if chunk else self._parser.flush()
        except SseOverflow:
            raise failures.garbage(self._server, "one event without end") from None
        for payload in payloads:
            self._take(payload)
        events = self._assembly.drain()
        if self._done or not chunk:
            events.append(self._finish())
        return events

    def _take(self, payload: bytes) -> None:
        try:
            event = decode_event(payload)
        except (ValueError, RecursionError):
            raise failures.garbage(self._server, failures.quoted(payload)) from None
        delta = event.delta
        if event.type == "content_block_delta":
            if delta is not None:
                self._take_delta(event.index, delta)
        elif event.type == "content_block_start":
            if event.content_block is not None:
                self._take_block(event.index, event.content_block)
        else:
            self._take_frame(event)

    def _take_delta(self, index: int, delta: Delta) -> None:
        if delta.text:
            self._assembly.text(delta.text)
        elif delta.partial_json:
            if index in self._own_calls:  # The provider streams its own tools' input too.
                self._assembly.tool_call(index, "", "", delta.partial_json)
        elif delta.thinking:
            self._assembly.reasoning(delta.thinking)
        elif delta.signature:
            self._assembly.signature += delta.signature

    def _take_block(self, index: int, block: Block) -> None:
        if block.type == "tool_use":
            self._own_calls.add(index)
            arguments = msgspec.json.encode(block.input).decode() if block.input else ""
            self._assembly.tool_call(index, block.id or "", block.name or "", arguments)
        elif block.text:
            self._assembly.text(block.text)
        elif block.thinking:
            self._assembly.reasoning(block.thinking)

    def _take_frame(self, event: Event) -> None:
        if event.type == "error":
            raise failures.from_error_object(self._server, self._model, event.error or "")
        usage = event.message.usage if event.message is not None else event.usage
        if usage is not None:
            self._usage = merge_usage(self._usage, usage)
        if event.delta is not None and event.delta.stop_reason:
            self._stop_reason = event.delta.stop_reason
            self.answered = True
        if event.type == "message_stop":
            self._done = True

    def _finish(self) -> ModelEvent:
        if not self._done and not self.answered:
            if self._assembly.is_empty:
                raise failures.garbage(self._server, "an empty answer")
            raise failures.broke_off(self._server)
        self.over = True
        self._assembly.usage = to_usage(self._usage)
        return self._assembly.finished(stop_reason(self._stop_reason))
