"""Provider for Anthropic's messages protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

import msgspec

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.anthropic_decoder import MessagesDecoder
from agent_svc.adapters.models.anthropic_wire import ModelList, encode_request
from agent_svc.adapters.models.streaming import stream_answer
from agent_svc.adapters.models.transport import Answer, Limits, Transport
from agent_svc.domain.model import ModelCapabilities, ModelEvent, ModelRequest

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
        except (ValueError, RecursionError):
            raise failures.garbage(self._transport.server, "its list of models cannot be read") from None

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See ModelProvider.stream."""
        body = encode_request(request)

        def decoder(answer: Answer) -> MessagesDecoder:
            return MessagesDecoder(self._transport.server, request.model, answer.content_type)

        return stream_answer(self._transport, lambda: self._transport.post("/messages", body, request.model), decoder)
