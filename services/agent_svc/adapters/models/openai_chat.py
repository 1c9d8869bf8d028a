"""Provider for OpenAI chat completions and every server that speaks them: OpenAI, vLLM, Ollama, llama.cpp, OpenRouter and others."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from urllib.parse import urlsplit

import msgspec

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.known_models import Known, capabilities_of
from agent_svc.adapters.models.openai_decoder import ChatDecoder
from agent_svc.adapters.models.openai_request import Dialect, encode_request
from agent_svc.adapters.models.openai_wire import ListedModel, ModelList
from agent_svc.adapters.models.streaming import stream_answer
from agent_svc.adapters.models.transport import Answer, Limits, Transport
from agent_svc.domain.model import ModelCapabilities, ModelEvent, ModelRejected, ModelRequest

OPENAI_URL = "https://api.openai.com/v1"
_OFFICIAL_HOST = "api.openai.com"
# Fields without which a request still means nearly the same: left out for a model that does not know them.
_OPTIONAL_FIELDS = (
    "stream_options",
    "temperature",
    "reasoning_effort",
    "max_tokens",
    "max_completion_tokens",
    "response_format",
    "reasoning_content",
    "reasoning_details",
    "extra_content",
    "parallel_tool_calls",
    "tool_choice",
)
_UNKNOWN_FIELD = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|\bextra (?:inputs?|fields?|keys?)|not permitted|not allowed"
    r"|unavailable",
    re.I,
)
_MAX_REMEMBERED = 256


class OpenAIChatProvider:
    """One OpenAI-compatible server.

    `api_key` may be empty (local servers). `server` is its name in messages. `capabilities` holds for all its models, except
    that what is `known` by the beginning of a model's name is better, and what the server's own list says better still.
    """

    def __init__(
        self,
        base_url: str = OPENAI_URL,
        api_key: str = "",
        *,
        server: str = "",
        capabilities: ModelCapabilities | None = None,
        known: Known | None = None,
        limits: Limits | None = None,
    ) -> None:
        official = urlsplit(base_url).hostname == _OFFICIAL_HOST
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._transport = Transport(server or f"The model server at {base_url}", base_url, headers, limits or Limits())
        self._capabilities = capabilities or ModelCapabilities()
        self._known = known or {}
        self._listed: dict[str, ListedModel] = {}
        self._limit_field = "max_completion_tokens" if official else "max_tokens"
        self._left_out: dict[str, frozenset[str]] = {}

    def capabilities(self, model: str) -> ModelCapabilities:
        """What is known of the model so far."""
        found = capabilities_of(model, self._known, self._capabilities)
        listed = self._listed.get(model)
        return listed.improve(found) if listed is not None else found

    async def list_models(self) -> Sequence[str]:
        """The ids of `/models`. Raises ModelError."""
        body = await self._transport.get("/models")
        try:
            models = msgspec.json.decode(body, type=ModelList).data
        except (ValueError, RecursionError):
            raise failures.garbage(self._transport.server, "its list of models cannot be read") from None
        self._listed = {model.id: model for model in models}
        return [model.id for model in models]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See ModelProvider.stream."""

        def decoder(answer: Answer) -> ChatDecoder:
            return ChatDecoder(self._transport.server, request.model, answer.content_type, self._transport.origin)

        return stream_answer(self._transport, lambda: self._open(request), decoder)

    async def _open(self, request: ModelRequest) -> Answer:
        """Send the request; where the server refuses an optional field, again without it, and so from then on."""
        while True:
            left_out = self._left_out.get(request.model, frozenset[str]())
            dialect = Dialect(
                with_tools=self._capabilities.supports_tools,
                with_images=self.capabilities(request.model).images is not False,
                limit_field=self._limit_field,
                left_out=left_out,
                origin=self._transport.origin,
            )
            try:
                body = encode_request(request, dialect)
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
