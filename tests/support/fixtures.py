"""Fixtures of the whole product: one real stack on free ports for the session, with a scripted model server behind the ordinary provider code."""

from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.local import Stack
from tests.fakes.model_control import ThreadedModelServer
from tests.support.api import Api

# Long enough for Envoy's cache of keys and one replica of user_svc.
PUBLICATION_S = 12

__all__ = ["PUBLICATION_S", "api", "model", "model_server", "stack"]


@pytest.fixture(scope="session")
def model_server() -> Iterator[ThreadedModelServer]:
    """The scripted model server."""
    with ThreadedModelServer() as server:
        yield server


@pytest.fixture
def model(model_server: ThreadedModelServer) -> Iterator[ThreadedModelServer]:
    """The scripted model server; what a test scripts is forgotten after it."""
    yield model_server
    model_server.reset()


@pytest.fixture(scope="session")
def stack(model_server: ThreadedModelServer) -> Iterator[Stack]:
    """The whole stack, started once. Tests that break processes start their own."""
    with Stack(env=environment(model_server)) as running:
        yield running


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[Api]:
    """A signed-in gRPC client of the session's stack."""
    async with Api(stack.url, stack.api_key) as client:
        yield client


def environment(model_server: ThreadedModelServer) -> dict[str, str]:
    """What a stack is told so that its agents use the scripted model."""
    return {
        "HEARTH_OPENAI_BASE_URL": model_server.url,
        "HEARTH_LOCAL_MODEL": "0",
        "HEARTH_SIGNING_KEY_PUBLICATION_S": str(PUBLICATION_S),
        # Issuers of the tests are at loopback addresses, and change their keys often.
        "HEARTH_OIDC_ALLOW_PRIVATE": "1",
        "HEARTH_OIDC_REFRESH_S": "2",
        # MCP servers of tests are on this machine.
        "HEARTH_MCP_ALLOWED_NETWORKS": "127.0.0.0/8",
    }
