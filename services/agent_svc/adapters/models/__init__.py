"""Language models over HTTP: two wire protocols of our own, and the catalog that chooses between their servers."""

from agent_svc.adapters.models.anthropic_messages import AnthropicProvider
from agent_svc.adapters.models.catalog import catalog_from_settings
from agent_svc.adapters.models.openai_chat import OpenAIChatProvider
from agent_svc.adapters.models.sources import LOCAL_MODEL, ModelSettings
from agent_svc.adapters.models.transport import Limits

__all__ = [
    "LOCAL_MODEL",
    "AnthropicProvider",
    "Limits",
    "ModelSettings",
    "OpenAIChatProvider",
    "catalog_from_settings",
]
