"""The catalog over real servers: the default read from the server's list, and what the list of models says."""

from __future__ import annotations

import socket

import pytest

from agent_svc.adapters.models import ModelSettings, catalog_from_settings
from agent_svc.domain.model import ModelNotUsable, ModelUnavailable
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.models.asking import QUICK, ask, collect


async def test_a_base_url_without_a_named_model_takes_the_servers_first_that_chats(server: FakeModelServer) -> None:
    server.book.models = ["nomic-embed-text", "qwen3:8b", "other"]
    catalog = catalog_from_settings(ModelSettings(openai_base_url=server.url, limits=QUICK))
    chosen = await catalog.resolve("")
    assert (chosen.name, chosen.provider_model) == ("openai/qwen3:8b", "qwen3:8b")
    assert (await collect(chosen.provider, ask("hi")))[1].text == "You said: hi"
    await server.__aexit__()
    assert (await catalog.resolve("")).name == "openai/qwen3:8b"  # Remembered while the server is away.
    await catalog.aclose()


async def test_the_list_names_what_is_usable_first_and_why_the_rest_is_not(server: FakeModelServer) -> None:
    settings = ModelSettings(
        openai_base_url=server.url, anthropic_api_key="x", anthropic_base_url="http://127.0.0.1:1/v1", limits=QUICK
    )
    catalog = catalog_from_settings(settings)
    models = await catalog.list_models()
    await catalog.aclose()
    by_name = {model.name: model for model in models}
    assert models[0].name == "openai/scripted"
    assert models[0].usable
    assert models[0].is_default
    assert "not reachable (connection refused)" in by_name["anthropic/*"].unusable_reason
    assert "HEARTH_LOCAL_MODEL_URL is not set" in by_name["local/smollm2-135m"].unusable_reason


async def test_a_default_that_must_be_asked_for_while_the_server_is_down() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        catalog = catalog_from_settings(ModelSettings(openai_base_url=url, limits=QUICK))
        with pytest.raises(ModelUnavailable, match="connection refused"):
            await catalog.resolve("")
        models = await catalog.list_models()
        assert "connection refused" in models[0].unusable_reason
        assert not models[0].usable
        await catalog.aclose()


async def test_a_server_without_models(server: FakeModelServer) -> None:
    server.book.models = ["text-embedding-3-small"]
    catalog = catalog_from_settings(ModelSettings(openai_base_url=server.url, limits=QUICK))
    with pytest.raises(ModelNotUsable, match="offers no chat model"):
        await catalog.resolve("")
    await catalog.aclose()
