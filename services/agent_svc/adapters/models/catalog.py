"""Which models this installation offers: reads the settings, builds the providers, resolves names, chooses the default."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit, urlunsplit

from agent_svc.adapters.models import known_models
from agent_svc.adapters.models.anthropic_messages import ANTHROPIC_URL, AnthropicProvider
from agent_svc.adapters.models.openai_chat import OPENAI_URL, OpenAIChatProvider
from agent_svc.adapters.models.transport import Limits
from agent_svc.domain.model import ModelCapabilities, ModelDescription, ModelError, ModelNotUsable
from agent_svc.interfaces.model_provider import ChosenModel, ModelCatalog, ModelProvider

LOCAL_MODEL = "smollm2-135m"
_LOCAL_CAPABILITIES = ModelCapabilities(
    supports_tools=False, context_window=2048, images=False, reasoning=False, structured_output=True
)
_DEFAULT_OPENAI_MODEL = "gpt-4.1-mini"
_DEFAULT_ANTHROPIC_MODEL = "claude-sonnet-4-5"
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


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The environment's part in models; empty texts are unset. `anthropic_base_url` serves proxies and tests."""

    openai_api_key: str = field(default="", repr=False)
    openai_base_url: str = ""
    anthropic_api_key: str = field(default="", repr=False)
    anthropic_base_url: str = ""
    local_model_url: str = ""
    default_model: str = ""
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ModelSettings:
        """Read OPENAI_API_KEY, HEARTH_OPENAI_BASE_URL, ANTHROPIC_API_KEY, HEARTH_ANTHROPIC_BASE_URL, HEARTH_LOCAL_MODEL_URL,
        HEARTH_DEFAULT_MODEL.
        """
        return cls(
            openai_api_key=environment.get("OPENAI_API_KEY", "").strip(),
            openai_base_url=environment.get("HEARTH_OPENAI_BASE_URL", "").strip(),
            anthropic_api_key=environment.get("ANTHROPIC_API_KEY", "").strip(),
            anthropic_base_url=environment.get("HEARTH_ANTHROPIC_BASE_URL", "").strip(),
            local_model_url=environment.get("HEARTH_LOCAL_MODEL_URL", "").strip(),
            default_model=environment.get("HEARTH_DEFAULT_MODEL", "").strip(),
        )


@dataclass(frozen=True, slots=True)
class _Source:
    """One prefix of model names: its provider, or why there is none.

    `fixed` are all its models where the server's own list says nothing useful; `default` is the model to take when nothing is
    chosen, empty: the first of the server's list.
    """

    provider: ModelProvider | None
    unusable: str = ""
    fixed: tuple[str, ...] = ()
    default: str = ""


def catalog_from_settings(settings: ModelSettings) -> ModelCatalog:
    """The catalog of what is configured. Connects to nothing."""
    sources = {"openai": _openai(settings), "anthropic": _anthropic(settings), "local": _local(settings)}
    return _Catalog(sources, settings.default_model)


class _Catalog:
    def __init__(self, sources: Mapping[str, _Source], default_model: str) -> None:
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
        return sorted(models, key=lambda model: (not model.usable, not model.is_default))

    async def _describe(self, name: str) -> ModelDescription:
        try:
            return ModelDescription(name, (await self.resolve(name)).capabilities)
        except ModelNotUsable as error:
            return ModelDescription(name, ModelCapabilities(), unusable_reason=error.message)

    async def _ask(self, prefix: str, source: _Source) -> list[ModelDescription]:
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
                names = [name for name in await provider.list_models() if _chats(name)]
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


def _openai(settings: ModelSettings) -> _Source:
    key, url = settings.openai_api_key, settings.openai_base_url
    if not key and not url:
        return _Source(None, "Set OPENAI_API_KEY, or HEARTH_OPENAI_BASE_URL for an OpenAI-compatible server.")
    if problem := _problem("OPENAI_API_KEY", key, "HEARTH_OPENAI_BASE_URL", url):
        return _Source(None, problem)
    if not url:
        provider = OpenAIChatProvider(
            OPENAI_URL, key, server="OpenAI", known=known_models.OPENAI, limits=settings.limits
        )
        return _Source(provider, default=_DEFAULT_OPENAI_MODEL)
    server = f"The model server at {_shown(url)}"
    return _Source(OpenAIChatProvider(url, key, server=server, known=known_models.OPENAI, limits=settings.limits))


def _anthropic(settings: ModelSettings) -> _Source:
    key, url = settings.anthropic_api_key, settings.anthropic_base_url
    if not key:
        return _Source(None, "Set ANTHROPIC_API_KEY.")
    if problem := _problem("ANTHROPIC_API_KEY", key, "HEARTH_ANTHROPIC_BASE_URL", url):
        return _Source(None, problem)
    server = f"The model server at {_shown(url)}" if url else "Anthropic"
    provider = AnthropicProvider(
        key, url or ANTHROPIC_URL, server=server, known=known_models.ANTHROPIC, limits=settings.limits
    )
    return _Source(provider, default=_DEFAULT_ANTHROPIC_MODEL)


def _local(settings: ModelSettings) -> _Source:
    url = settings.local_model_url
    if not url:
        return _Source(None, "No local model is running (HEARTH_LOCAL_MODEL_URL is not set).", fixed=(LOCAL_MODEL,))
    if problem := _problem("", "", "HEARTH_LOCAL_MODEL_URL", url):
        return _Source(None, problem, fixed=(LOCAL_MODEL,))
    # One slot, one thread: with others in front of it the first byte takes its time.
    limits = replace(settings.limits, first_byte_s=max(settings.limits.first_byte_s, 180.0))
    provider = OpenAIChatProvider(
        url, server=f"The local model server at {_shown(url)}", capabilities=_LOCAL_CAPABILITIES, limits=limits
    )
    return _Source(provider, fixed=(LOCAL_MODEL,), default=LOCAL_MODEL)


def _problem(key_name: str, key: str, url_name: str, url: str) -> str:
    if key and not (key.isascii() and key.isprintable()):
        return f"{key_name} holds characters that no key has."
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    return "" if valid or not url else f"{url_name} is not an http:// or https:// address."


def _shown(url: str) -> str:
    """The address without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _chats(name: str) -> bool:
    return not any(word in name.lower() for word in _NO_CHAT)
