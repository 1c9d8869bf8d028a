"""Provider for Anthropic's messages protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

import msgspec

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.anthropic_wire import (
    Block,
    Delta,
    Event,
    ModelList,
    WireUsage,
    decode_event,
    encode_request,
    merge_usage,
    stop_reason,
    to_usage,
)
from agent_svc.adapters.models.assembly import Assembly
from agent_svc.adapters.models.sse import SseOverflow, SseParser
from agent_svc.adapters.models.transport import Answer, Limits, Transport
from agent_svc.domain.model import ModelCapabilities, ModelError, ModelEvent, ModelRequest

ANTHROPIC_URL = "https://api.anthropic.com/v1"
_VERSION = "2023-06-01"


class AnthropicProvider:
    """Anthropic's API, or a server that speaks its protocol at `base_url`."""

    def __init__(
        self,
        api_key: str,
        base_url: str = ANTHROPIC_URL,
        *,
        server: str = "Anthropic",
        capabilities: ModelCapabilities | None = None,
        windows: Mapping[str, int] | None = None,
        limits: Limits | None = None,
    ) -> None:
        headers = {"x-api-key": api_key, "anthropic-version": _VERSION}
        self._transport = Transport(server, base_url, headers, limits or Limits())
        self._capabilities = capabilities or ModelCapabilities()
        self._windows = dict(windows or {})

    def capabilities(self, model: str) -> ModelCapabilities:
        """What is known of the model from its name."""
        known = [prefix for prefix in self._windows if model.startswith(prefix)]
        window = self._windows[max(known, key=len)] if known else self._capabilities.context_window
        return replace(self._capabilities, context_window=window)

    async def list_models(self) -> Sequence[str]:
        """The ids of `/models`. Raises ModelError."""
        body = await self._transport.get("/models?limit=1000")
        try:
            return [model.id for model in msgspec.json.decode(body, type=ModelList).data]
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise failures.garbage(self._transport.server, "its list of models cannot be read") from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See ModelProvider.stream."""
        body = encode_request(request)
        attempt = 1
        while True:
            begun = False
            try:
                async with await self._transport.post("/messages", body, request.model) as answer:
                    reader = _Reader(self._transport.server, request.model, answer)
                    while not reader.over:
                        for event in await reader.next_events():
                            begun = True
                            yield event
                return
            except ModelError as error:
                if begun or not await self._transport.wait_for_retry(attempt, error):
                    raise
                attempt += 1


class _Reader:
    """Understands one answer, network chunk by network chunk; `over` once ModelFinished was given out."""

    def __init__(self, server: str, model: str, answer: Answer) -> None:
        self.over = False
        self._server = server
        self._model = model
        self._answer = answer
        self._parser = SseParser()
        self._assembly = Assembly()
        self._usage = WireUsage()
        self._stop_reason: str | None = None
        self._done = False

    async def next_events(self) -> list[ModelEvent]:
        """The events of the next chunk; perhaps none. Raises ModelError."""
        if self._answer.content_type in ("text/html", "application/json"):
            raise failures.garbage(self._server, f"{self._answer.content_type} instead of a stream")
        chunk = await self._answer.read()
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
            raise failures.garbage(
                self._server, f"“{failures.clean(payload[:80].decode('utf-8', 'replace'))}”"
            ) from None
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
            self._assembly.tool_call(index, "", "", delta.partial_json)
        elif delta.thinking:
            self._assembly.reasoning(delta.thinking)
        elif delta.signature:
            self._assembly.signature += delta.signature

    def _take_block(self, index: int, block: Block) -> None:
        if block.type == "tool_use":
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
        if event.type == "message_stop":
            self._done = True

    def _finish(self) -> ModelEvent:
        if not self._done and self._stop_reason is None:
            if self._assembly.is_empty:
                raise failures.garbage(self._server, "an empty answer")
            raise failures.broke_off(self._server)
        self.over = True
        self._answer.complete()
        self._assembly.usage = to_usage(self._usage)
        return self._assembly.finished(stop_reason(self._stop_reason, self._assembly.has_tool_calls))
