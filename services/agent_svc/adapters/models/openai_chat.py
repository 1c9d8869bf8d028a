"""Provider for OpenAI chat completions and every server that speaks them: OpenAI, vLLM, Ollama, llama.cpp, OpenRouter and others."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import msgspec

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.assembly import Assembly
from agent_svc.adapters.models.openai_wire import (
    Chunk,
    Delta,
    ModelList,
    ToolCallPart,
    decode_chunk,
    encode_request,
    stop_reason,
)
from agent_svc.adapters.models.sse import SseOverflow, SseParser
from agent_svc.adapters.models.transport import Answer, Limits, Transport
from agent_svc.domain.model import (
    ModelCapabilities,
    ModelError,
    ModelEvent,
    ModelRejected,
    ModelRequest,
)

OPENAI_URL = "https://api.openai.com/v1"
_OFFICIAL_HOST = "api.openai.com"
_TRAILER_S = 2.0
# Fields without which a request still means nearly the same: left out for a model that does not know them.
_OPTIONAL_FIELDS = ("stream_options", "temperature", "reasoning_effort", "max_tokens", "max_completion_tokens")
_UNKNOWN_FIELD = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|extra|not permitted|not allowed", re.I
)
_MAX_REMEMBERED = 256


class OpenAIChatProvider:
    """One OpenAI-compatible server.

    `api_key` may be empty (local servers). `server` is its name in messages. `capabilities` holds for all its models, except
    that a context window which the server's model list names, or the caller's `windows` by prefix of the model's name, is better.
    """

    def __init__(
        self,
        base_url: str = OPENAI_URL,
        api_key: str = "",
        *,
        server: str = "",
        capabilities: ModelCapabilities | None = None,
        windows: Mapping[str, int] | None = None,
        limits: Limits | None = None,
    ) -> None:
        official = urlsplit(base_url).hostname == _OFFICIAL_HOST
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._transport = Transport(server or f"The model server at {base_url}", base_url, headers, limits or Limits())
        self._capabilities = capabilities or ModelCapabilities()
        self._windows = dict(windows or {})
        self._listed_windows: dict[str, int] = {}
        self._limit_field = "max_completion_tokens" if official else "max_tokens"
        self._left_out: dict[str, frozenset[str]] = {}

    def capabilities(self, model: str) -> ModelCapabilities:
        """What is known of the model so far."""
        window = self._listed_windows.get(model)
        if window is None:
            known = [prefix for prefix in self._windows if model.startswith(prefix)]
            window = self._windows[max(known, key=len)] if known else self._capabilities.context_window
        return replace(self._capabilities, context_window=window)

    async def list_models(self) -> Sequence[str]:
        """The ids of `/models`. Raises ModelError."""
        body = await self._transport.get("/models")
        try:
            models = msgspec.json.decode(body, type=ModelList).data
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise failures.garbage(self._transport.server, "its list of models cannot be read") from None
        self._listed_windows = {model.id: window for model in models if (window := model.window)}
        return [model.id for model in models]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See ModelProvider.stream."""
        attempt = 1
        while True:
            begun = False
            try:
                async with await self._open(request) as answer:
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

    async def _open(self, request: ModelRequest) -> Answer:
        """Send the request; where the server refuses an optional field, again without it, and so from then on."""
        while True:
            left_out = self._left_out.get(request.model, frozenset())
            with_tools = self._capabilities.supports_tools
            body = encode_request(request, with_tools=with_tools, limit_field=self._limit_field, left_out=left_out)
            try:
                return await self._transport.post("/chat/completions", body, request.model)
            except ModelRejected as error:
                refused = _refused_field(error)
                if not refused or refused in left_out:
                    raise
                if len(self._left_out) >= _MAX_REMEMBERED:
                    self._left_out.clear()
                self._left_out[request.model] = left_out | {refused}


def _refused_field(error: ModelRejected) -> str:
    """The optional field that the server says it does not know, or an empty text."""
    if error.status not in (400, 422) or not _UNKNOWN_FIELD.search(error.reason):
        return ""
    return next((name for name in _OPTIONAL_FIELDS if re.search(rf"\b{name}\b", error.reason)), "")


class _Reader:
    """Understands one answer, network chunk by network chunk; `over` once ModelFinished was given out."""

    def __init__(self, server: str, model: str, answer: Answer) -> None:
        self.over = False
        self._server = server
        self._model = model
        self._answer = answer
        self._parser = SseParser()
        self._assembly = Assembly()
        self._finish_reason: str | None = None
        self._done = False

    async def next_events(self) -> list[ModelEvent]:
        """The events of the next chunk; perhaps none. Raises ModelError."""
        try:
            payloads, ended = await self._next_payloads()
        except ModelError:
            if self._finish_reason is None:
                raise
            payloads, ended = [], True  # The answer was whole; only the usage behind it is missing.
        take = self._take
        for payload in payloads:
            take(payload)
        events = self._assembly.drain()
        if ended or self._done:
            events.append(self._finish())
        return events

    async def _next_payloads(self) -> tuple[list[bytes], bool]:
        """(payloads, whether the body has ended)"""
        content_type = self._answer.content_type
        if content_type == "application/json":
            return [await self._answer.read_all()], True
        if content_type == "text/html":
            raise failures.garbage(self._server, "a web page. Check the configured URL")
        chunk = await self._answer.read()
        try:
            return (self._parser.feed(chunk), False) if chunk else (self._parser.flush(), True)
        except SseOverflow:
            raise failures.garbage(self._server, "one event without end") from None

    def _take(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._done = True
            return
        try:
            chunk = decode_chunk(payload)
        except (ValueError, RecursionError):
            raise failures.garbage(
                self._server, f"“{failures.clean(payload[:80].decode('utf-8', 'replace'))}”"
            ) from None
        choices = chunk.choices
        if choices:
            choice = choices[0]
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
        content = delta.content
        if content:
            if isinstance(content, str):
                self._assembly.text(content)
            else:
                self._assembly.text("".join(part.text or "" for part in content))
        elif reasoning := delta.reasoning_content or delta.reasoning:
            self._assembly.reasoning(reasoning)
        if delta.refusal:
            self._assembly.text(delta.refusal)
        for part in delta.tool_calls or ():
            self._take_tool_call(part)

    def _take_tool_call(self, part: ToolCallPart) -> None:
        function = part.function
        name, arguments = (function.name, function.arguments) if function else (None, None)
        if isinstance(arguments, dict):
            arguments = msgspec.json.encode(arguments).decode()
        self._assembly.tool_call(part.index, part.id or "", name or "", arguments or "")

    def _take_finish_reason(self, finish_reason: str, chunk: Chunk) -> None:
        if finish_reason == "error":
            raise failures.from_error_object(self._server, self._model, chunk.error or "")
        if self._finish_reason is None:
            self._finish_reason = finish_reason
            self._answer.allow_silence(_TRAILER_S)

    def _finish(self) -> ModelEvent:
        if self._finish_reason is None and self._assembly.is_empty:
            raise failures.garbage(self._server, "an empty answer")
        if self._finish_reason is None and not self._done and self._answer.content_type != "application/json":
            raise failures.broke_off(self._server)
        self.over = True
        self._answer.complete()
        return self._assembly.finished(stop_reason(self._finish_reason, self._assembly.has_tool_calls))
