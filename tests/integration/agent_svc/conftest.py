"""A database, a NATS and a model server for agent_svc's tests; a replica over them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from agent_svc.factory import services
from chassis import ids
from chassis.auth import JwksFromUserService, TokenVerifier
from chassis.channels import open_channel
from chassis.pagination import PageTokens
from chassis.server import Assembly, Server
from chassis.settings import ServiceSettings
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.grpc_client import Client
from tests.integration.agent_svc.nats_server import NatsServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica
from tests.support.databases import Databases, databases
from tests.support.issuer import Issuer

__all__ = ["databases"]

MIGRATIONS = Path(__file__).parents[3] / "services" / "agent_svc" / "migrations"


@pytest.fixture
async def nats(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
async def model() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer() as server:
        yield server


@pytest.fixture
def addresses(databases: Databases, nats: NatsServer, model: FakeModelServer) -> Addresses:
    return Addresses(databases.fresh(MIGRATIONS).url, nats.url, model.url)


@pytest.fixture
async def here(addresses: Addresses) -> AsyncIterator[Replica]:
    """A replica that works and answers."""
    async with replica(addresses) as running:
        yield running


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
async def channel(here: Replica, issuer: Issuer) -> AsyncIterator[grpc.aio.Channel]:
    """To a gRPC server over the replica, which verifies the issuer's tokens."""
    user_channel = open_channel(issuer.address)
    verifier = TokenVerifier(JwksFromUserService(user_channel))
    face = services(here.core, here.outside.models, verifier.verify, verifier.revocations, PageTokens(b"secret"))
    server = Server(
        Assembly(servicers=face, verifier=verifier), ServiceSettings(listen="127.0.0.1:0", shutdown_grace_s=0.2)
    )
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
            yield opened
    finally:
        await server.stop()
        await user_channel.close()


@pytest.fixture
def client(channel: grpc.aio.Channel, issuer: Issuer) -> Client:
    return Client(issuer.identity(ids.new()).token, channel)


@pytest.fixture
def foreigner(channel: grpc.aio.Channel, issuer: Issuer) -> Client:
    return Client(issuer.identity(ids.new()).token, channel)
