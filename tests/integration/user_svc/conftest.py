"""A running user_svc over a fresh database, and clients of it with different rights."""

import asyncio
import base64
import hashlib
import json
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psycopg
import pytest
import pytest_asyncio

from chassis.server import Server
from hearth.type.v1 import access_pb2
from hearth.user.v1 import (
    api_key_service_pb2,
    organization_pb2,
    organization_service_pb2,
    token_service_pb2,
    user_pb2,
    user_service_pb2,
)
from hearth.user.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from hearth.user.v1.audit_service_pb2_grpc import AuditServiceStub
from hearth.user.v1.organization_service_pb2_grpc import OrganizationServiceStub
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from hearth.user.v1.trusted_issuer_service_pb2_grpc import TrustedIssuerServiceStub
from hearth.user.v1.user_service_pb2_grpc import UserServiceStub
from tests.fakes.oidc_issuer import OidcIssuer
from tests.support.databases import Databases, FreshDatabase, databases
from user_svc.domain.api_key import new_secret
from user_svc.factory import build
from user_svc.settings import UserSettings

__all__ = ["databases"]

MIGRATIONS = Path(__file__).parents[3] / "services" / "user_svc" / "migrations"

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Secrets:
    """What the operator gives to user_svc."""

    folder: Path
    admin_key: str
    service_key: str

    @classmethod
    def make(cls, folder: Path) -> "Secrets":
        made = cls(folder, new_secret(), new_secret())
        (folder / "master").write_text(base64.b64encode(os.urandom(32)).decode())
        (folder / "admin").write_text(made.admin_key + "\n")
        (folder / "service").write_text(made.service_key)
        for name in ("memory_svc", "tool_svc", "gateway"):
            (folder / f"{name}.key").write_text(new_secret())
        (folder / "agent_svc.key").write_text(made.service_key)
        hashes = {
            key.stem: hashlib.sha256(key.read_text().encode()).hexdigest() for key in sorted(folder.glob("*.key"))
        }
        (folder / "services.json").write_text(json.dumps(hashes))
        return made

    def service_key_of(self, name: str) -> str:
        return (self.folder / f"{name}.key").read_text()

    def settings(self, database: FreshDatabase) -> UserSettings:
        return UserSettings.model_validate(
            {
                "listen": "127.0.0.1:0",
                "database_url": database.url,
                "database_pool_size": 4,
                "master_key_file": self.folder / "master",
                "bootstrap_admin_key_file": self.folder / "admin",
                "service_keys_file": self.folder / "services.json",
                "shutdown_grace_s": 0.5,
                "oidc_allow_private": True,
                "oidc_refresh_s": 1,
            }
        )


@asynccontextmanager
async def running(settings: UserSettings) -> AsyncGenerator[str]:
    """A server in this process; yields its address."""
    server = Server(await build(settings), settings)
    try:
        yield f"127.0.0.1:{await server.start()}"
    finally:
        await server.stop()


class Client:
    """One caller."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata, who: token_service_pb2.WhoAmIResponse) -> None:
        self.metadata = metadata
        self.who = who
        self.channel = channel
        self.organizations = OrganizationServiceStub(channel)
        self.users = UserServiceStub(channel)
        self.api_keys = ApiKeyServiceStub(channel)
        self.tokens = TokenServiceStub(channel)
        self.audit = AuditServiceStub(channel)
        self.issuers = TrustedIssuerServiceStub(channel)

    @property
    def organization_id(self) -> str:
        return self.who.organization.id

    @property
    def user_id(self) -> str:
        return self.who.user.id

    async def create_user(self, **fields: object) -> user_pb2.User:
        request = user_service_pb2.CreateUserRequest(name=f"u-{uuid.uuid4().hex[:12]}")
        for field, value in fields.items():
            setattr(request, field, value)
        return (await self.users.CreateUser(request, metadata=self.metadata)).user

    async def create_key(
        self, user_id: str = "", organization_id: str = ""
    ) -> api_key_service_pb2.CreateApiKeyResponse:
        request = api_key_service_pb2.CreateApiKeyRequest(user_id=user_id, organization_id=organization_id)
        return await self.api_keys.CreateApiKey(request, metadata=self.metadata)

    async def create_organization(self) -> organization_pb2.Organization:
        request = organization_service_pb2.CreateOrganizationRequest(name=f"o-{uuid.uuid4().hex[:12]}")
        return (await self.organizations.CreateOrganization(request, metadata=self.metadata)).organization


class World:
    """user_svc, and ways into it."""

    def __init__(self, address: str, secrets: Secrets, database: FreshDatabase) -> None:
        self.address = address
        self.secrets = secrets
        self.database = database
        self._open = AsyncExitStack()

    async def close(self) -> None:
        await self._open.aclose()

    async def sign_in(self, secret: str, organization_id: str = "", user_id: str = "") -> Client:
        channel = await self._open.enter_async_context(grpc.aio.insecure_channel(self.address))
        tokens = TokenServiceStub(channel)
        issued = await tokens.IssueToken(
            token_service_pb2.IssueTokenRequest(
                api_key=secret, on_behalf_of_organization_id=organization_id, on_behalf_of_user_id=user_id
            )
        )
        metadata = (("authorization", f"Bearer {issued.token}"),)
        return Client(channel, metadata, await tokens.WhoAmI(token_service_pb2.WhoAmIRequest(), metadata=metadata))

    async def admin(self) -> Client:
        return await self.sign_in(self.secrets.admin_key)

    async def member_of(self, admin: Client, organization_id: str = "", role: str = "ROLE_MEMBER") -> Client:
        """A new user, in the admin's organization or another, signed in."""
        user = await admin.create_user(organization_id=organization_id, role=access_pb2.Role.Value(role))
        return await self.sign_in((await admin.create_key(user.id, organization_id)).secret)


async def until_recorded(world: World) -> None:
    """Waits until no record of the audit log is on its way."""
    with psycopg.connect(world.database.superuser_url, autocommit=True) as connection:
        for _ in range(200):
            if connection.execute("SELECT 1 FROM audit_outbox LIMIT 1").fetchone() is None:
                return
            await asyncio.sleep(0.05)
    raise AssertionError("records of the audit log do not leave the outbox")


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets.make(tmp_path)


@pytest.fixture
def database(databases: Databases) -> FreshDatabase:
    return databases.fresh(MIGRATIONS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One user_svc for the tests of a module; each works in an organization of its own."""
    secrets, database = Secrets.make(tmp_path_factory.mktemp("world")), databases.fresh(MIGRATIONS)
    async with running(secrets.settings(database)) as address:
        made = World(address, secrets, database)
        try:
            yield made
        finally:
            await made.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def first_admin(world: World) -> Client:
    """The platform administrator of the first start."""
    return await world.admin()


@pytest_asyncio.fixture(loop_scope="module")
async def admin(world: World, first_admin: Client) -> Client:
    """A platform administrator in a new organization."""
    organization = await first_admin.create_organization()
    return await world.member_of(first_admin, organization.id, "ROLE_PLATFORM_ADMIN")


@pytest.fixture
def idp() -> Iterator[OidcIssuer]:
    """An issuer of its own for each test."""
    with OidcIssuer() as running:
        yield running
