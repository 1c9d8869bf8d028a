"""Names of models, the default among them, and what is said when nothing is configured. Nothing here touches a network."""

from __future__ import annotations

import msgspec
import pytest

from agent_svc.adapters.models import ModelSettings, catalog_from_settings
from agent_svc.adapters.models.openai_wire import ListedModel
from agent_svc.adapters.models.prices import priced
from agent_svc.domain.model import ModelCapabilities, ModelDescription, ModelNotUsable, ModelPrice

LOCAL = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("settings", "default"),
    [
        (ModelSettings(openai_api_key="sk-x", anthropic_api_key="a", local_model_url=LOCAL), "openai/gpt-4.1-mini"),
        (ModelSettings(anthropic_api_key="a", local_model_url=LOCAL), "anthropic/claude-sonnet-4-5"),
        (ModelSettings(local_model_url=LOCAL), "local/smollm2-135m"),
        (ModelSettings(google_api_key="g", aws_region="eu-central-1"), "google/gemini-2.5-flash"),
        (ModelSettings(openai_api_key="sk-x", default_model="openai/gpt-5"), "openai/gpt-5"),
        (ModelSettings(openai_base_url=LOCAL, default_model="openai/org/some:7b"), "openai/org/some:7b"),
    ],
)
async def test_the_default_model(settings: ModelSettings, default: str) -> None:
    chosen = await catalog_from_settings(settings).resolve("")
    assert chosen.name == default
    assert chosen.provider_model == default.partition("/")[2]


@pytest.mark.parametrize(
    ("settings", "name", "says"),
    [
        (ModelSettings(), "", "No language model is configured. Set OPENAI_API_KEY"),
        (ModelSettings(local_model_url=LOCAL), "openai/gpt-5", "cannot be used: Set OPENAI_API_KEY"),
        (ModelSettings(), "anthropic/claude", "Set ANTHROPIC_API_KEY"),
        (ModelSettings(), "local/smollm2-135m", "HEARTH_LOCAL_MODEL_URL is not set"),
        (ModelSettings(local_model_url=LOCAL), "local/llama", "there is local/smollm2-135m"),
        (ModelSettings(openai_api_key="k"), "gpt-5", "Model names look like openai/<name>"),
        (ModelSettings(aws_region="eu-central-1"), "", "pydantic-ai-slim[bedrock]"),
        (ModelSettings(), "google/gemini-2.5-flash", "Set GOOGLE_API_KEY"),
        (ModelSettings(openai_api_key="k"), "openai/", "There is no model “openai/”"),
        (ModelSettings(openai_api_key="k", default_model="gpt-5"), "", "set as HEARTH_DEFAULT_MODEL"),
        (ModelSettings(openai_base_url="ftp://x"), "openai/m", "HEARTH_OPENAI_BASE_URL is not an http"),
        (ModelSettings(openai_base_url="http://[::1/v1"), "openai/m", "is not an http"),
        (ModelSettings(openai_api_key="sk-\nx"), "openai/m", "OPENAI_API_KEY holds characters"),
    ],
)
async def test_what_cannot_be_used_says_why(settings: ModelSettings, name: str, says: str) -> None:
    with pytest.raises(ModelNotUsable) as caught:
        await catalog_from_settings(settings).resolve(name)
    assert says in str(caught.value)
    assert not caught.value.retryable


async def test_what_is_known_of_models() -> None:
    catalog = catalog_from_settings(ModelSettings(openai_api_key="k", anthropic_api_key="a", local_model_url=LOCAL))
    windows = {
        "openai/gpt-4": 8_192,
        "openai/gpt-4o-mini": 128_000,
        "openai/gpt-4.1-mini": 1_047_576,
        "openai/unheard-of": None,
        "anthropic/claude-opus-4-1": 200_000,
        "local/smollm2-135m": 2048,
    }
    for name, window in windows.items():
        assert (await catalog.resolve(name)).capabilities.context_window == window, name
    assert not (await catalog.resolve("local/smollm2-135m")).capabilities.supports_tools
    assert (await catalog.resolve("openai/gpt-4")).capabilities.supports_tools


async def test_the_list_without_anything_configured_says_what_to_set() -> None:
    models = await catalog_from_settings(ModelSettings()).list_models()
    assert [model.name for model in models] == [
        "openai/*",
        "anthropic/*",
        "local/smollm2-135m",
        "openai-responses/*",
        "google/*",
        "bedrock/*",
    ]
    assert not any(model.usable or model.is_default for model in models)
    assert all("Set" in model.unusable_reason or "is not set" in model.unusable_reason for model in models)


def test_keys_do_not_show() -> None:
    settings = ModelSettings.from_environment({"OPENAI_API_KEY": " sk-secret\n", "ANTHROPIC_API_KEY": "sk-ant-secret"})
    assert settings.openai_api_key == "sk-secret"
    assert "secret" not in repr(settings)


async def test_what_models_can_do_and_cost() -> None:
    catalog = catalog_from_settings(ModelSettings(openai_api_key="k", anthropic_api_key="a", google_api_key="g"))
    wanted = {
        "openai/gpt-4.1-mini": (True, False, True),
        "openai/gpt-3.5-turbo": (False, False, False),
        "openai/o3-mini": (False, True, True),
        "openai/unheard-of": (None, None, None),
        "anthropic/claude-sonnet-4-5": (True, True, True),
        "google/gemini-2.5-flash": (True, True, True),
    }
    for name, abilities in wanted.items():
        known = (await catalog.resolve(name)).capabilities
        assert (known.images, known.reasoning, known.structured_output) == abilities, name
    names = ["openai/gpt-4.1-mini", "anthropic/claude-sonnet-4-5", "openai/unheard-of", "openai/*", "local/x"]
    models = await priced(
        [ModelDescription(name, ModelCapabilities()) for name in names],
        {"openai": "openai", "anthropic": "anthropic", "local": ""},
    )
    assert models[0].price == ModelPrice(0.4, 1.6, 0.1)
    assert models[1].price == ModelPrice(3.0, 15.0, 0.3)
    assert [model.price for model in models[2:]] == [None, None, None]


def test_a_servers_own_list_is_believed() -> None:
    listed = msgspec.json.decode(
        b'{"id":"x/y","context_length":4096,"architecture":{"input_modalities":["text","image"]},'
        b'"supported_parameters":["tools","reasoning"]}',
        type=ListedModel,
    )
    assert listed.improve(ModelCapabilities()) == ModelCapabilities(True, 4096, True, True, False)
    assert ListedModel("z", max_model_len=512).improve(ModelCapabilities(False)) == ModelCapabilities(False, 512)
