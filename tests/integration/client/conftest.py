"""A server and a client that knows its key."""

from collections.abc import AsyncIterator

import pytest

from hearth_client import AsyncHearth
from tests.fakes.hearth_server import API_KEY, FakeHearth


@pytest.fixture
async def server() -> AsyncIterator[FakeHearth]:
    async with FakeHearth() as server:
        yield server


@pytest.fixture
async def client(server: FakeHearth) -> AsyncIterator[AsyncHearth]:
    async with AsyncHearth(server.url, API_KEY, retry_for_s=3, reconnect_for_s=10) as client:
        yield client
