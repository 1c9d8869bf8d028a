"""A scripted model server in the test's loop, and providers of both protocols that speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent_svc.adapters.models import AnthropicProvider, OpenAIChatProvider
from agent_svc.interfaces.model_provider import ModelProvider
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.models.asking import QUICK


@pytest.fixture
async def server() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer() as server:
        yield server


@pytest.fixture(params=["openai", "anthropic"])
async def provider(request: pytest.FixtureRequest, server: FakeModelServer) -> AsyncIterator[ModelProvider]:
    """Each test runs over both protocols."""
    if request.param == "openai":
        provider: ModelProvider = OpenAIChatProvider(server.url, "test-secret-key-1", limits=QUICK)
    else:
        shown = f"The model server at {server.url}"
        provider = AnthropicProvider("test-secret-key-1", server.url, server=shown, limits=QUICK)
    yield provider
    await provider.aclose()


@pytest.fixture
async def openai(server: FakeModelServer) -> AsyncIterator[OpenAIChatProvider]:
    """For what only this protocol's servers do."""
    provider = OpenAIChatProvider(server.url, "test-secret-key-1", limits=QUICK)
    yield provider
    await provider.aclose()
