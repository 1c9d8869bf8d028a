"""What is known of well-known models by their names, for lists and for refusing early. A server's own word is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent_svc.domain.model import ModelCapabilities

Known = Mapping[str, ModelCapabilities]


def _model(window: int, *, images: bool = True, reasoning: bool = False, structured: bool = True) -> ModelCapabilities:
    return ModelCapabilities(True, window, images, reasoning, structured)


# By the beginning of the name, the longest that fits; https://platform.openai.com/docs/models.
OPENAI: Known = {
    "gpt-3.5": _model(16_385, images=False, structured=False),
    "gpt-4": _model(8_192, images=False, structured=False),
    "gpt-4-turbo": _model(128_000, structured=False),
    "gpt-4o": _model(128_000),
    "gpt-4.1": _model(1_047_576),
    "gpt-4.5": _model(128_000),
    "gpt-5": _model(400_000, reasoning=True),
    "gpt-oss": _model(131_072, images=False, reasoning=True),
    "o1": _model(200_000, reasoning=True),
    "o1-mini": _model(128_000, images=False, reasoning=True, structured=False),
    "o3": _model(200_000, reasoning=True),
    "o3-mini": _model(200_000, images=False, reasoning=True),
    "o4": _model(200_000, reasoning=True),
}
# https://docs.anthropic.com/en/docs/about-claude/models. Answers with a schema are calls of a tool, which every one can.
ANTHROPIC: Known = {
    "claude-": _model(200_000, reasoning=True),
    "claude-3": _model(200_000),
    "claude-3-7": _model(200_000, reasoning=True),
    "claude-2": _model(200_000, images=False, structured=False),
}
# https://ai.google.dev/gemini-api/docs/models
GOOGLE: Known = {
    "gemini-": _model(1_048_576, reasoning=True),
    "gemini-1.5": _model(1_048_576),
    "gemini-2.0": _model(1_048_576),
    "gemma-": _model(131_072, images=False, structured=False),
}


def capabilities_of(model: str, known: Known, otherwise: ModelCapabilities) -> ModelCapabilities:
    """Of the longest known beginning of the name; what a caller knows for certain of the server (no tools) stays."""
    beginnings = [beginning for beginning in known if model.startswith(beginning)]
    if not beginnings:
        return otherwise
    found = known[max(beginnings, key=len)]
    return found if otherwise.supports_tools else replace(found, supports_tools=False)
