"""memory_svc as a real process, and callers of it."""

import base64
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis import ids
from chassis.errors import DomainError
from chassis.identity import Identity, Role, use
from chassis.status import from_rpc_error
from hearth.memory.internal.v1.context_service_pb2_grpc import ContextServiceStub
from hearth.memory.internal.v1.recall_index_service_pb2_grpc import RecallIndexServiceStub
from hearth.memory.v1.archival_memory_service_pb2_grpc import ArchivalMemoryServiceStub
from hearth.memory.v1.block_service_pb2_grpc import BlockServiceStub
from hearth.memory.v1.index_service_pb2_grpc import IndexServiceStub
from hearth.memory.v1.recall_memory_service_pb2_grpc import RecallMemoryServiceStub
from tests.support.databases import FreshDatabase
from tests.support.issuer import Issuer

Answer = TypeVar("Answer")


class MemoryProcess:
    """One memory_svc; `kill` is SIGKILL, `stop` is SIGTERM, `start` after either uses the same database and folder."""

    def __init__(self, database: FreshDatabase, issuer: Issuer, folder: Path) -> None:
        self.superuser_url = database.superuser_url
        self.vectors = folder / "vectors"
        self.log = folder / "memory_svc.log"
        key = folder / "master.key"
        service_key = folder / "service.key"
        service_key.write_text("hk_" + "s" * 43)
        key.write_text(base64.b64encode(os.urandom(32)).decode())
        self.address = ""
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")},
            "HEARTH_DATABASE_URL": database.url,
            "HEARTH_USER_SVC_ADDRESS": issuer.address,
            "HEARTH_MASTER_KEY_FILE": str(key),
            "HEARTH_SERVICE_KEY_FILE": str(service_key),
            "HEARTH_VECTOR_PATH": str(self.vectors),
            "HEARTH_ENVIRONMENT": "development",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def configure(self, **settings: str) -> None:
        """Sets environment variables for the next start; an empty value removes one."""
        self._environment |= settings
        self._environment = {name: value for name, value in self._environment.items() if value}

    def start(self) -> float:
        """Returns the seconds until it served."""
        began = time.monotonic()
        # Another port each time: gRPC remembers that the old one refused, and waits before it tries it again.
        self.address = f"127.0.0.1:{_free_port()}"
        environment = {**self._environment, "HEARTH_LISTEN": self.address}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "memory_svc"], env=environment, stderr=log)
        while time.monotonic() - began < 60:
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            if _is_serving(self.address):
                return time.monotonic() - began
            time.sleep(0.05)
        raise AssertionError(f"memory_svc does not serve: {self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Returns the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(number)
        return process.wait(timeout=20)


class Caller:
    """Calls as one identity; errors come as DomainError."""

    def __init__(self, channel: grpc.aio.Channel, identity: Identity) -> None:
        self.identity = identity
        self.blocks: Any = _Bound(BlockServiceStub(channel), identity)
        self.archival: Any = _Bound(ArchivalMemoryServiceStub(channel), identity)
        self.recall: Any = _Bound(RecallMemoryServiceStub(channel), identity)
        self.index: Any = _Bound(RecallIndexServiceStub(channel), identity)
        self.context: Any = _Bound(ContextServiceStub(channel), identity)
        self.upkeep: Any = _Bound(IndexServiceStub(channel), identity)


async def answers(stream: Any, identity: Identity, request: Any) -> list[Any]:
    """All messages of a method that streams."""
    try:
        with use(identity):
            call = stream(request, timeout=60)
        return [answer async for answer in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


class _Bound:
    """A stub whose methods call as an identity."""

    def __init__(self, stub: Any, identity: Identity) -> None:
        self._stub = stub
        self._identity = identity

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[Any]]:
        method = getattr(self._stub, name)

        async def call(request: Any) -> Any:
            try:
                with use(self._identity):
                    return await method(request, timeout=20)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error

        return call


class Organization:
    """Callers of a fresh organization, and an agent in it."""

    def __init__(self, channel: grpc.aio.Channel, issuer: Issuer) -> None:
        self._issuer = issuer
        self.id = ids.new()
        self.agent = new_id("agent")
        self.connect(channel)

    def connect(self, channel: grpc.aio.Channel) -> None:
        """Calls go through this channel from here on, as after a restart."""
        self.member = Caller(channel, self._issuer.identity(self.id))
        self.admin = Caller(channel, self._issuer.identity(self.id, Role.ORGANIZATION_ADMIN))
        self.viewer = Caller(channel, self._issuer.identity(self.id, Role.VIEWER))
        self.service = Caller(channel, self._issuer.identity(self.id, Role.SERVICE, on_behalf_of="user_of_a_test"))


def new_id(prefix: str) -> str:
    return ids.encode(prefix, ids.new())


def is_error(error: DomainError, code: str, reason: str) -> bool:
    return (error.code, error.reason) == (code, reason)


def request_id() -> str:
    return str(uuid.uuid4())


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _is_serving(address: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING
