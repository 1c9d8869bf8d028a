"""List prices of models from genai-prices. Imported when they are first asked for: that takes most of a second."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent_svc.domain.model import ModelDescription, ModelPrice

# Few, so that prices of long prompts do not come in.
_TOKENS = 1_000
_SAMPLES: tuple[dict[str, int], ...] = (
    {"input_tokens": _TOKENS},
    {"output_tokens": _TOKENS},
    {"input_tokens": _TOKENS, "cache_read_tokens": _TOKENS},
)


async def priced(models: Sequence[ModelDescription], providers: Mapping[str, str]) -> list[ModelDescription]:
    """The same models with their prices, where known. `providers` says for a prefix what the library calls its provider."""
    return await asyncio.to_thread(_priced, models, providers)


def _priced(models: Sequence[ModelDescription], providers: Mapping[str, str]) -> list[ModelDescription]:
    found: list[ModelDescription] = []
    for model in models:
        prefix, _, name = model.name.partition("/")
        provider = providers.get(prefix, "")
        found.append(replace(model, price=_price(provider, name)) if provider and name != "*" else model)
    return found


@functools.lru_cache(maxsize=4096)
def _price(provider: str, model: str) -> ModelPrice | None:
    try:
        read, written, cached = (_per_million(provider, model, **tokens) for tokens in _SAMPLES)
    except LookupError:
        return None
    return ModelPrice(read, written, min(cached, read))


def _per_million(provider: str, model: str, **tokens: int) -> float:
    library: Any = importlib.import_module("genai_prices")
    cost = library.calc_price(library.Usage(**tokens), model_ref=model, provider_id=provider).total_price
    return round(float(cost) * 1_000_000 / _TOKENS, 6)
