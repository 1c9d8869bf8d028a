"""Provider for every protocol that is not ours: OpenAI Responses, Google and more, through pydantic-ai's model classes.

The library is an extra (`pip install 'hearth[models]'`) and is imported only when such a model is used: it costs two seconds
and 19.9 CPU-ms a stream, which our own two protocols shall not pay.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent_svc.adapters.models import failures
from agent_svc.adapters.models.assembly import Assembly
from agent_svc.adapters.models.known_models import Known, capabilities_of
from agent_svc.adapters.models.retrying import wait_for_retry
from agent_svc.adapters.models.transport import Limits
from agent_svc.domain.model import (
    ModelCapabilities,
    ModelError,
    ModelEvent,
    ModelFinished,
    ModelNotUsable,
    ModelRequest,
    ModelTimeout,
    ModelUnavailable,
)

if TYPE_CHECKING:
    from agent_svc.adapters.models import library_calls

_MAX_MODELS = 64


@dataclass(frozen=True, slots=True)
class LibrarySource:
    """One of the library's providers: `kind` is its name there, `extra` what must be installed for it, `module` what then is.

    Without `key` the library's own rules apply (Bedrock: those of AWS). `shows_urls`: the provider fetches an image behind
    an address by itself; elsewhere the library would do it, from inside our network, and so it is refused.
    """

    kind: str
    server: str
    extra: str
    module: str
    key: str = field(default="", repr=False)
    base_url: str = ""
    shows_urls: bool = False


class LibraryProvider:
    """All models of one source."""

    def __init__(
        self,
        source: LibrarySource,
        *,
        capabilities: ModelCapabilities | None = None,
        known: Known | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._source = source
        self._capabilities = capabilities or ModelCapabilities()
        self._known = known or {}
        self._limits = limits or Limits()
        self._models: dict[str, library_calls.ModelSource] = {}
        self._closed = asyncio.Event()

    def capabilities(self, model: str) -> ModelCapabilities:
        """What is known of the model from its name."""
        return capabilities_of(model, self._known, self._capabilities)

    async def list_models(self) -> Sequence[str]:
        """A star: the library lists no models, so any name may be right. Raises ModelNotUsable without the library."""
        if not (_is_installed("pydantic_ai") and _is_installed(self._source.module)):
            raise self._not_installed()
        return ["*"]

    async def aclose(self) -> None:
        """End streams under way."""
        self._closed.set()
        self._models.clear()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """See ModelProvider.stream."""
        calls, model = await self._model(request.model)
        attempt = 1
        while True:
            begun = False
            try:
                async with contextlib.aclosing(self._once(calls, model, request)) as events:
                    async for event in events:
                        begun = True
                        yield event
                return
            except ModelError as error:
                if begun or self._closed.is_set() or not await wait_for_retry(self._limits, attempt, error):
                    raise
                attempt += 1

    async def _once(
        self, calls: type[library_calls.Calls], model: library_calls.ModelSource, request: ModelRequest
    ) -> AsyncGenerator[ModelEvent, None]:
        assembly = Assembly(f"library/{self._source.kind}")
        limit_s = self._limits.connect_s + self._limits.first_byte_s
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(limit_s):
                    answer = await stack.enter_async_context(calls.open(model, request, self._source))
                events = aiter(answer)
                while True:
                    async with asyncio.timeout(limit_s):
                        event = await anext(events, None)
                    if event is None:
                        break
                    if self._closed.is_set():
                        raise ModelUnavailable("The model call was broken off because this process is shutting down.")
                    limit_s = self._limits.idle_s
                    calls.take(event, assembly)
                    for delta in assembly.drain():
                        yield delta
                finished = calls.finished(answer, assembly)
        except ModelError:
            raise
        except TimeoutError:
            raise ModelTimeout(f"{self._source.server} sent nothing for {limit_s:g} s.") from None
        except Exception as error:
            raise calls.failure(self._source.server, request.model, error) from None
        yield _checked(finished, self._source.server)

    async def _model(self, name: str) -> tuple[type[library_calls.Calls], library_calls.ModelSource]:
        """Off the event loop: the import takes seconds."""
        try:
            module = await asyncio.to_thread(_library)
            if name not in self._models:
                if len(self._models) >= _MAX_MODELS:
                    self._models.clear()
                self._models[name] = await asyncio.to_thread(module.build, self._source, name)
        except ImportError:
            raise self._not_installed() from None
        return module.Calls, self._models[name]

    def _not_installed(self) -> ModelNotUsable:
        how = f"pip install 'hearth[models]' 'pydantic-ai-slim[{self._source.extra}]'"
        return ModelNotUsable(f"{self._source.server} is reached through a library that is not installed: {how}")


def _library():
    """The module that imports the library."""
    from agent_svc.adapters.models import library_calls

    return library_calls


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # Its parent is missing.


def _checked(finished: ModelFinished, server: str) -> ModelFinished:
    if not (finished.text or finished.reasoning or finished.tool_calls):
        raise failures.garbage(server, "an empty answer")
    return finished
