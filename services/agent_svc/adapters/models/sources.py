"""Where models come from: the environment's settings, and the providers that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit, urlunsplit

from agent_svc.adapters.models import known_models
from agent_svc.adapters.models.anthropic_messages import ANTHROPIC_URL, AnthropicProvider
from agent_svc.adapters.models.library import LibraryProvider, LibrarySource
from agent_svc.adapters.models.openai_chat import OPENAI_URL, OpenAIChatProvider
from agent_svc.adapters.models.transport import Limits
from agent_svc.domain.model import ModelCapabilities
from agent_svc.interfaces.model_provider import ModelProvider

LOCAL_MODEL = "smollm2-135m"
_LOCAL_CAPABILITIES = ModelCapabilities(
    supports_tools=False, context_window=2048, images=False, reasoning=False, structured_output=True
)
_DEFAULT_OPENAI_MODEL = "gpt-4.1-mini"
_DEFAULT_ANTHROPIC_MODEL = "claude-sonnet-4-5"
_DEFAULT_GOOGLE_MODEL = "gemini-2.5-flash"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The environment's part in models; empty texts are unset. `anthropic_base_url` serves proxies and tests."""

    openai_api_key: str = field(default="", repr=False)
    openai_base_url: str = ""
    anthropic_api_key: str = field(default="", repr=False)
    anthropic_base_url: str = ""
    local_model_url: str = ""
    google_api_key: str = field(default="", repr=False)
    google_base_url: str = ""
    aws_region: str = ""
    default_model: str = ""
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ModelSettings:
        """Read OPENAI_API_KEY, HEARTH_OPENAI_BASE_URL, ANTHROPIC_API_KEY, HEARTH_ANTHROPIC_BASE_URL, HEARTH_LOCAL_MODEL_URL,
        GOOGLE_API_KEY (or GEMINI_API_KEY), HEARTH_GOOGLE_BASE_URL, AWS_REGION (or AWS_DEFAULT_REGION), HEARTH_DEFAULT_MODEL.
        """
        google = environment.get("GOOGLE_API_KEY", "").strip() or environment.get("GEMINI_API_KEY", "").strip()
        region = environment.get("AWS_REGION", "").strip() or environment.get("AWS_DEFAULT_REGION", "").strip()
        return cls(
            openai_api_key=environment.get("OPENAI_API_KEY", "").strip(),
            openai_base_url=environment.get("HEARTH_OPENAI_BASE_URL", "").strip(),
            anthropic_api_key=environment.get("ANTHROPIC_API_KEY", "").strip(),
            anthropic_base_url=environment.get("HEARTH_ANTHROPIC_BASE_URL", "").strip(),
            local_model_url=environment.get("HEARTH_LOCAL_MODEL_URL", "").strip(),
            google_api_key=google,
            google_base_url=environment.get("HEARTH_GOOGLE_BASE_URL", "").strip(),
            aws_region=region,
            default_model=environment.get("HEARTH_DEFAULT_MODEL", "").strip(),
        )


@dataclass(frozen=True, slots=True)
class Source:
    """One prefix of model names: its provider, or why there is none.

    `fixed` are all its models where the server's own list says nothing useful; `default` is the model to take when nothing is
    chosen, empty: the first of the server's list. `priced_as` is what genai-prices calls the provider, where it is the real one.
    """

    provider: ModelProvider | None
    unusable: str = ""
    fixed: tuple[str, ...] = ()
    default: str = ""
    priced_as: str = ""


def sources_from(settings: ModelSettings) -> dict[str, Source]:
    """By prefix, those first whose default model is taken first. Connects to nothing, imports nothing."""
    return {
        "openai": _openai(settings),
        "anthropic": _anthropic(settings),
        "local": _local(settings),
        "openai-responses": _responses(settings),
        "google": _google(settings),
        "bedrock": _bedrock(settings),
    }


def _openai(settings: ModelSettings) -> Source:
    key, url = settings.openai_api_key, settings.openai_base_url
    if not key and not url:
        return Source(None, "Set OPENAI_API_KEY, or HEARTH_OPENAI_BASE_URL for an OpenAI-compatible server.")
    if problem := _problem("OPENAI_API_KEY", key, "HEARTH_OPENAI_BASE_URL", url):
        return Source(None, problem)
    if not url:
        provider = OpenAIChatProvider(
            OPENAI_URL, key, server="OpenAI", known=known_models.OPENAI, limits=settings.limits
        )
        return Source(provider, default=_DEFAULT_OPENAI_MODEL, priced_as="openai")
    server = f"The model server at {_shown(url)}"
    return Source(OpenAIChatProvider(url, key, server=server, known=known_models.OPENAI, limits=settings.limits))


def _anthropic(settings: ModelSettings) -> Source:
    key, url = settings.anthropic_api_key, settings.anthropic_base_url
    if not key:
        return Source(None, "Set ANTHROPIC_API_KEY.")
    if problem := _problem("ANTHROPIC_API_KEY", key, "HEARTH_ANTHROPIC_BASE_URL", url):
        return Source(None, problem)
    server = f"The model server at {_shown(url)}" if url else "Anthropic"
    provider = AnthropicProvider(
        key, url or ANTHROPIC_URL, server=server, known=known_models.ANTHROPIC, limits=settings.limits
    )
    return Source(provider, default=_DEFAULT_ANTHROPIC_MODEL, priced_as="" if url else "anthropic")


def _local(settings: ModelSettings) -> Source:
    url = settings.local_model_url
    if not url:
        return Source(None, "No local model is running (HEARTH_LOCAL_MODEL_URL is not set).", fixed=(LOCAL_MODEL,))
    if problem := _problem("", "", "HEARTH_LOCAL_MODEL_URL", url):
        return Source(None, problem, fixed=(LOCAL_MODEL,))
    # One slot, one thread: with others in front of it the first byte takes its time.
    limits = replace(settings.limits, first_byte_s=max(settings.limits.first_byte_s, 180.0))
    provider = OpenAIChatProvider(
        url, server=f"The local model server at {_shown(url)}", capabilities=_LOCAL_CAPABILITIES, limits=limits
    )
    return Source(provider, fixed=(LOCAL_MODEL,), default=LOCAL_MODEL)


def _responses(settings: ModelSettings) -> Source:
    """OpenAI's other protocol, with the key and the address of the first."""
    key, url = settings.openai_api_key, settings.openai_base_url
    if not key:
        return Source(None, "Set OPENAI_API_KEY.")
    if problem := _problem("OPENAI_API_KEY", key, "HEARTH_OPENAI_BASE_URL", url):
        return Source(None, problem)
    server = f"The model server at {_shown(url)}" if url else "OpenAI"
    source = LibrarySource("openai-responses", server, "openai", "openai", key, url, shows_urls=True)
    provider = LibraryProvider(source, known=known_models.OPENAI, limits=settings.limits)
    return Source(provider, priced_as="" if url else "openai")


def _google(settings: ModelSettings) -> Source:
    key, url = settings.google_api_key, settings.google_base_url
    if not key:
        return Source(None, "Set GOOGLE_API_KEY.")
    if problem := _problem("GOOGLE_API_KEY", key, "HEARTH_GOOGLE_BASE_URL", url):
        return Source(None, problem)
    server = f"The model server at {_shown(url)}" if url else "Google"
    source = LibrarySource("google", server, "google", "google.genai", key, url)
    provider = LibraryProvider(source, known=known_models.GOOGLE, limits=settings.limits)
    return Source(provider, default=_DEFAULT_GOOGLE_MODEL, priced_as="" if url else "google")


def _bedrock(settings: ModelSettings) -> Source:
    """With the credentials that AWS's own rules find."""
    if not settings.aws_region:
        return Source(None, "Set AWS_REGION, and credentials as AWS's own tools read them.")
    source = LibrarySource("bedrock", "Bedrock", "bedrock", "boto3")
    return Source(LibraryProvider(source, limits=settings.limits), priced_as="aws")


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
