"""The roles through which the agent loop reaches language models: a provider that streams, and the catalog that finds it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent_svc.domain.model import ModelCapabilities, ModelDescription, ModelEvent, ModelRequest


class ModelProvider(Protocol):
    """One model server, spoken to in its own protocol."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Call the model and yield its answer as it comes; the last event is ModelFinished, or a ModelError is raised.

        Nothing is sent before the first `anext`. Failures before the first event are retried inside, bounded in number and
        time. Closing the generator (`contextlib.aclosing`), or cancelling the task that awaits it, closes the HTTP
        stream at once, so that the provider stops generating.
        """
        ...

    async def list_models(self) -> Sequence[str]:
        """The server's own model names, in its order. Raises ModelError."""
        ...

    def capabilities(self, model: str) -> ModelCapabilities:
        """What is known of `model` (the provider's own name), without asking the server."""
        ...

    async def aclose(self) -> None:
        """Close all connections; streams under way fail with ModelUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A catalog name resolved: `name` is the full one (never empty), `provider_model` goes into ModelRequest.model."""

    name: str
    provider: ModelProvider
    provider_model: str
    capabilities: ModelCapabilities


class ModelCatalog(Protocol):
    """All models of this installation, by names such as `openai/<name>`, `anthropic/<name>` and `local/<name>`."""

    async def resolve(self, name: str) -> ChosenModel:
        """Find a model by its full name; an empty name means the default model.

        Asks the network only when the default model must be read from the server's list (then remembered).
        Raises ModelNotUsable when the name is unknown or its provider not configured, ModelUnavailable when the
        default had to be asked for and the server is down.
        """
        ...

    async def list_models(self) -> Sequence[ModelDescription]:
        """Every model known, usable ones first, with the reason why the others are not. Never raises for a dead server."""
        ...

    async def aclose(self) -> None:
        """Close all providers."""
        ...
