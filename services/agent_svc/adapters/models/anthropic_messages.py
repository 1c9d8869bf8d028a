"""Provider for Anthropic's messages protocol."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import msgspec

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.anthropic_decoder import MessagesDecoder
from agent_svc.adapters.models.anthropic_request import Dialect, answer_tool, encode_request
from agent_svc.adapters.models.anthropic_wire import ModelList
from agent_svc.adapters.models.known_models import Known, capabilities_of
from agent_svc.adapters.models.streaming import stream_answer
from agent_svc.adapters.models.transport import Answer, Limits, Transport
from agent_svc.domain.model import ModelCapabilities, ModelEvent, ModelRejected, ModelRequest

ANTHROPIC_URL = "https://api.anthropic.com/v1"
_VERSION = "2023-06-01"
# Fields without which a request still means nearly the same: left out for a model that does not take them.
_OPTIONAL_FIELDS = ("temperature", "output_config", "stop_sequences")
_REFUSED = re.compile(
    r"unsupported|not (?:be )?support|deprecated|not permitted|not allowed|extra inputs|may not be", re.I
)
_MAX_REMEMBERED = 256


class AnthropicProvider:
    """Anthropic's API, or a server that speaks its protocol at `base_url`."""

    def __init__(
        self,
        api_key: str,
        base_url: str = ANTHROPIC_URL,
        *,
        server: str = "Anthropic",
        capabilities: ModelCapabilities | None = None,
        known: Known | None = None,
        limits: Limits | None = None,
    ) -> None:
        headers = {"x-api-key": api_key, "anthropic-version": _VERSION}
        self._transport = Transport(server, base_url, headers, limits or Limits())
        self._capabilities = capabilities or ModelCapabilities()
        self._known = known or {}
        self._dialect = Dialect(origin=self._transport.origin)
        self._dialects: dict[str, Dialect] = {}

    def capabilities(self, model: str) -> ModelCapabilities:
        """What is known of the model from its name."""
        return capabilities_of(model, self._known, self._capabilities)

    async def list_models(self) -> Sequence[str]:
        """The ids of `/models`. Raises ModelError."""
        body = await self._transport.get("/models?limit=1000")
        try:
            return [model.id for model in msgspec.json.decode(body, type=ModelList).data]
        except (ValueError, RecursionError):
            raise failures.garbage(self._transport.server, "its list of models cannot be read") from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See ModelProvider.stream."""

        def decoder(answer: Answer) -> MessagesDecoder:
            return MessagesDecoder(
                self._transport.server,
                request.model,
                answer.content_type,
                self._transport.origin,
                answer_tool(request),
            )

        return stream_answer(self._transport, lambda: self._open(request), decoder)

    async def _open(self, request: ModelRequest) -> Answer:
        """Send the request; where the model refuses a way to say it, again in another way, and so from then on."""
        while True:
            dialect = self._dialects.get(request.model, self._dialect)
            try:
                return await self._transport.post("/messages", encode_request(request, dialect), request.model)
            except ModelRejected as error:
                other = _other_dialect(dialect, error)
                if other is None:
                    raise
                if len(self._dialects) >= _MAX_REMEMBERED:
                    self._dialects.clear()
                self._dialects[request.model] = other


def _other_dialect(dialect: Dialect, error: ModelRejected) -> Dialect | None:
    """How to say it instead; None when the refusal is about something else."""
    if error.status != 400 or not _REFUSED.search(error.reason):
        return None
    if "thinking" in error.reason and "adaptive" in error.reason and not dialect.adaptive:
        return replace(dialect, adaptive=True)
    refused = next((name for name in _OPTIONAL_FIELDS if re.search(rf"\b{name}\b", error.reason)), "")
    if not refused or refused in dialect.left_out:
        return None
    return replace(dialect, left_out=dialect.left_out | {refused})
