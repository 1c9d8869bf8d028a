"""Which models this installation offers: resolves names, chooses the default, lists what is usable and why the rest is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent_svc.adapters.models import prices
from agent_svc.adapters.models.sources import ModelSettings, Source, sources_from
from agent_svc.domain.model import ModelCapabilities, ModelDescription, ModelError, ModelNotUsable
from agent_svc.interfaces.model_provider import ChosenModel, ModelCatalog, ModelProvider

# Names of models that do not chat: never the default, and not listed.
_NO_CHAT = (
    "embed",
    "rerank",
    "whisper",
    "tts",
    "dall-e",
    "moderation",
    "transcribe",
    "image",
    "sora",
    "realtime",
    "audio",
)
_LIST_FRESH_S = 10.0
_DEFAULT_FRESH_S = 60.0


def catalog_from_settings(settings: ModelSettings) -> ModelCatalog:
    """The catalog of what is configured. Connects to nothing."""
    return _Catalog(sources_from(settings), settings.default_model)


class _Catalog:
    def __init__(self, sources: Mapping[str, Source], default_model: str) -> None:
        self._sources = sources
        self._configured_default = default_model
        self._lock = asyncio.Lock()
        self._default = ""
        self._default_until = 0.0
        self._listed: Sequence[ModelDescription] = ()
        self._listed_until = 0.0

    async def resolve(self, name: str) -> ChosenModel:
        """See ModelCatalog.resolve."""
        full = name or await self._default_name()
        prefix, _, model = full.partition("/")
        source = self._sources.get(prefix)
        if source is None or not model:
            known = ", ".join(f"{known}/<name>" for known in self._sources)
            where = "" if name else " (set as HEARTH_DEFAULT_MODEL)"
            raise ModelNotUsable(f"There is no model “{full[:100]}”{where}. Model names look like {known}.")
        if source.provider is None:
            raise ModelNotUsable(f"The model {full[:100]} cannot be used: {source.unusable}", named_well=True)
        if source.fixed and model not in source.fixed:
            names = ", ".join(f"{prefix}/{known}" for known in source.fixed)
            raise ModelNotUsable(f"There is no model “{full[:100]}”; there is {names}.")
        return ChosenModel(full, source.provider, model, source.provider.capabilities(model))

    async def list_models(self) -> Sequence[ModelDescription]:
        """See ModelCatalog.list_models. Remembered for ten seconds."""
        async with self._lock:
            if time.monotonic() >= self._listed_until:
                self._listed = await self._ask_all()
                self._listed_until = time.monotonic() + _LIST_FRESH_S
            return self._listed

    async def aclose(self) -> None:
        """See ModelCatalog.aclose."""
        await asyncio.gather(*(source.provider.aclose() for source in self._sources.values() if source.provider))

    async def _ask_all(self) -> list[ModelDescription]:
        lists = await asyncio.gather(*(self._ask(prefix, source) for prefix, source in self._sources.items()))
        models = [model for models in lists for model in models]
        try:
            default = await self._default_name()
        except ModelError:
            default = ""  # The rows of its provider say why.
        if default and not any(model.name == default for model in models):
            models.append(await self._describe(default))
        models = [replace(model, is_default=model.name == default) for model in models]
        models = await prices.priced(models, {prefix: source.priced_as for prefix, source in self._sources.items()})
        return sorted(models, key=lambda model: (not model.usable, not model.is_default))

    async def _describe(self, name: str) -> ModelDescription:
        try:
            return ModelDescription(name, (await self.resolve(name)).capabilities)
        except ModelNotUsable as error:
            return ModelDescription(name, ModelCapabilities(), unusable_reason=error.message)

    async def _ask(self, prefix: str, source: Source) -> list[ModelDescription]:
        unusable = source.unusable
        names: Sequence[str] = source.fixed
        if source.provider is not None:
            try:
                listed = await source.provider.list_models()
                names = source.fixed or [name for name in listed if _chats(name)]
            except ModelError as error:
                unusable = error.message
        known = [
            ModelDescription(
                f"{prefix}/{name}",
                source.provider.capabilities(name) if source.provider else ModelCapabilities(),
                unusable_reason=unusable,
            )
            for name in names
        ]
        return known or [
            ModelDescription(f"{prefix}/*", ModelCapabilities(), unusable_reason=unusable or "It has no models.")
        ]

    async def _default_name(self) -> str:
        if self._configured_default:
            return self._configured_default
        for prefix, source in self._sources.items():
            if source.provider is None:
                continue
            if source.default:
                return f"{prefix}/{source.default}"
            return await self._first_listed(prefix, source.provider)
        reasons = " ".join(dict.fromkeys(source.unusable for source in self._sources.values()))
        raise ModelNotUsable(f"No language model is configured. {reasons}")

    async def _first_listed(self, prefix: str, provider: ModelProvider) -> str:
        """The first chat model of the server's list, asked for at most once a minute; the last known one while it is down."""
        now = time.monotonic()
        if not self._default or now >= self._default_until:
            try:
                names = [name for name in await provider.list_models() if _chats(name) and name != "*"]
            except ModelError:
                if not self._default:
                    raise
                names = []
            if names:
                self._default = f"{prefix}/{names[0]}"
            self._default_until = now + _DEFAULT_FRESH_S
        if not self._default:
            raise ModelNotUsable(f"The model server of {prefix}/ offers no chat model. Set HEARTH_DEFAULT_MODEL.")
        return self._default


def _chats(name: str) -> bool:
    return not any(word in name.lower() for word in _NO_CHAT)
