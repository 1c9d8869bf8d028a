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
from agent_svc.adapters.models.proof import ThinkingBlock
from agent_svc.adapters.models.sse import SseOverflow, SseParser
from agent_svc.domain.model import ModelEvent


class MessagesDecoder:
    """See streaming.Decoder. `server` and `model` are for messages, `origin` is what a Proof names.

    A call of `answer_tool` is the answer's text; what the model says beside it is dropped.
    """

    def __init__(
        self,
        server: str,
        model: str,
        content_type: str = "text/event-stream",
        origin: str = "",
        answer_tool: str = "",
    ) -> None:
        if content_type in ("text/html", "application/json"):
            raise failures.garbage(server, f"{content_type} instead of a stream")
        self.answered = False
        self.over = False
        self._server = server
        self._model = model
        self._parser = SseParser()
        self._assembly = Assembly(origin)
        self._usage = WireUsage()
        self._stop_reason = ""
        self._own_calls: set[int] = set()
        self._thought: ThinkingBlock | None = None
        self._answer_tool = answer_tool
        self._answer_index: int | None = None
        self._held: list[str] = []
        self._done = False

    def feed(self, chunk: bytes) -> list[ModelEvent]:
        """See streaming.Decoder."""
        try:
            payloads = self._parser.feed(chunk) if chunk else self._parser.flush()
        except SseOverflow:
            raise failures.garbage(self._server, "one event without end") from None
        for payload in payloads:
            self._take(payload)
        if self._done or not chunk:
            return self._finish()
        return self._assembly.drain()

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
            self._say(delta.text)
        elif delta.partial_json:
            if index == self._answer_index:
                self._assembly.text(delta.partial_json)
            elif index in self._own_calls:  # The provider streams its own tools' input too.
                self._assembly.tool_call(index, "", "", delta.partial_json)
        elif delta.thinking:
            self._think(delta.thinking)
        elif delta.signature and self._thought is not None:
            self._thought.signature += delta.signature

    def _take_block(self, index: int, block: Block) -> None:
        if block.type == "tool_use":
            arguments = msgspec.json.encode(block.input).decode() if block.input else ""
            if self._answer_tool and block.name == self._answer_tool:
                if self._answer_index is None:
                    self._answer_index = index
                    self._assembly.text(arguments)
                return
            self._own_calls.add(index)
            self._assembly.tool_call(index, block.id or "", block.name or "", arguments)
        elif block.type in ("thinking", "redacted_thinking"):
            self._begin_thought(block)
        elif block.text:
            self._say(block.text)

    def _begin_thought(self, block: Block) -> None:
        assembly = self._assembly
        self._thought = ThinkingBlock(
            signature=block.signature or "",
            redacted=block.data or "",
            text_before=assembly.text_characters,
            calls_before=assembly.calls,
        )
        assembly.proof.thinking.append(self._thought)
        if block.thinking:
            self._think(block.thinking)

    def _think(self, piece: str) -> None:
        self._assembly.reasoning(piece)
        if self._thought is not None:
            self._thought.characters += len(piece) - piece.count("\x00")  # The assembly drops these.

    def _say(self, piece: str) -> None:
        """Text of the answer; held back while the answer may still come as a tool call."""
        if self._answer_tool:
            self._held.append(piece)
        else:
            self._assembly.text(piece)

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

    def _finish(self) -> list[ModelEvent]:
        if not self._done and not self.answered:
            if self._assembly.is_empty and not self._held:
                raise failures.garbage(self._server, "an empty answer")
            raise failures.broke_off(self._server)
        if self._answer_index is None and self._held:
            self._assembly.text("".join(self._held))
        events = self._assembly.drain()
        self.over = True
        self._assembly.usage = to_usage(self._usage)
        if not any(block.signature or block.redacted for block in self._assembly.proof.thinking):
            self._assembly.proof.thinking.clear()  # Only signed thinking can be given back.
        return [*events, self._assembly.finished(stop_reason(self._stop_reason))]
