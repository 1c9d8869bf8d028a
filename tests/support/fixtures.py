"""Fixtures of the whole product: one real stack on free ports for the session, with a scripted model server behind the ordinary provider code."""

from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.local import Stack
from tests.fakes.model_server import ModelServerThread
from tests.support.api import Api


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServerThread]:
    """The scripted model server."""
    with ModelServerThread() as server:
        yield server


@pytest.fixture(scope="session")
def stack(model_server: ModelServerThread) -> Iterator[Stack]:
    """The whole stack, started once. Tests that break processes start their own."""
    with Stack(env={"HEARTH_OPENAI_BASE_URL": model_server.url, "HEARTH_LOCAL_MODEL": "0"}) as running:
        yield running


@pytest.fixture
async def api(stack: Stack) -> AsyncIterator[Api]:
    """A signed-in gRPC client of the session's stack."""
    async with Api(stack.url, stack.api_key) as client:
        yield client
