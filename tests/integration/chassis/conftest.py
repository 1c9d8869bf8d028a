"""A database for the chassis's own tests, and servers that stop by themselves."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from chassis.auth import TokenVerifier
from chassis.database import Database
from chassis.server import Assembly, Server
from chassis.settings import ServiceSettings
from tests.support.databases import Databases, FreshDatabase, databases

__all__ = ["databases"]

MIGRATIONS = Path(__file__).parent / "migrations"

Serve = Callable[..., Awaitable[str]]


@pytest.fixture
def fresh(databases: Databases) -> FreshDatabase:
    """A migrated database with nothing in it."""
    return databases.fresh(MIGRATIONS)


@pytest.fixture
async def database(fresh: FreshDatabase) -> AsyncIterator[Database]:
    """The same, as a service opens it."""
    opened = Database(fresh.url, application_name="chassis-test", pool_size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves servicers on a free port: `address = await serve(verifier, (add, servicer, name), …)`."""
    running: list[Server] = []

    async def start(verifier: TokenVerifier | None, *servicers: tuple[Any, Any, str]) -> str:
        settings = ServiceSettings(environment="development", listen="127.0.0.1:0", shutdown_grace_s=0.5)
        server = Server(Assembly(servicers=servicers, verifier=verifier), settings)
        running.append(server)
        return f"127.0.0.1:{await server.start()}"

    yield start
    for server in running:
        await server.stop()
