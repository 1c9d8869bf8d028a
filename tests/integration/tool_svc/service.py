"""tool_svc as a real process, and callers of it."""

import base64
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format, struct_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis import ids
from chassis.identity import Identity, Role, use
from chassis.status import from_rpc_error
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from hearth.tool.v1 import tool_pb2
from hearth.tool.v1 import tool_service_pb2 as pb
from hearth.tool.v1.mcp_server_service_pb2_grpc import McpServerServiceStub
from hearth.tool.v1.secret_service_pb2_grpc import SecretServiceStub
from hearth.tool.v1.tool_execution_service_pb2_grpc import ToolExecutionServiceStub
from hearth.tool.v1.tool_service_pb2_grpc import ToolServiceStub
from tests.support.issuer import Issuer

ADD = '''
def add(a: int, b: int = 1) -> int:
    """Adds two numbers.

    Args:
        a: The first.
        b: The second.
    """
    print("adding")
    return a + b
'''


class ToolProcess:
    """One tool_svc on a free port."""

    def __init__(self, database_url: str, issuer: Issuer, folder: Path, sandbox_dir: Path) -> None:
        self.issuer = issuer
        self.log = folder / "tool_svc.log"
        key = folder / "master.key"
        service_key = folder / "service.key"
        service_key.write_text("hk_" + "s" * 43)
        key.write_text(base64.b64encode(os.urandom(32)).decode())
        self.address = f"127.0.0.1:{_free_port()}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")},
            "HEARTH_LISTEN": self.address,
            "HEARTH_DATABASE_URL": database_url,
            "HEARTH_USER_SVC_ADDRESS": issuer.address,
            "HEARTH_MASTER_KEY_FILE": str(key),
            "HEARTH_SERVICE_KEY_FILE": str(service_key),
            "HEARTH_SANDBOX_DIR": str(sandbox_dir),
            "HEARTH_ENVIRONMENT": "development",
        }
        self.command = [sys.executable, "-m", "tool_svc"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self.command, env=self.environment, stderr=log)
        began = time.monotonic()
        while time.monotonic() - began < 30:
            assert self._process.poll() is None, self.log.read_text()[-4000:]
            if _is_serving(self.address):
                return
            time.sleep(0.05)
        raise AssertionError(f"tool_svc does not serve: {self.log.read_text()[-4000:]}")

    def run_until_it_ends(self) -> str:
        """Its log, for starts that must fail. Raises AssertionError when it serves instead."""
        with self.log.open("wb") as log:
            ended = subprocess.run(self.command, env=self.environment, stderr=log, timeout=30, check=False)
        assert ended.returncode == 1
        return self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Returns the exit status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(number)
        return process.wait(timeout=20)


class Caller:
    """Calls as one identity; errors come as DomainError."""

    def __init__(self, channel: grpc.aio.Channel, identity: Identity) -> None:
        self.identity = identity
        self.tools: Any = _Bound(ToolServiceStub(channel), identity)
        self.mcp_servers: Any = _Bound(McpServerServiceStub(channel), identity)
        self.secrets: Any = _Bound(SecretServiceStub(channel), identity)
        self._executions = ToolExecutionServiceStub(channel)

    async def create(self, source: str = ADD, **fields: Any) -> tool_pb2.Tool:
        return (await self.tools.CreateTool(pb.CreateToolRequest(tool=spec(source, **fields)))).tool

    async def stream(
        self, request: execution_pb.ExecuteToolRequest
    ) -> AsyncGenerator[execution_pb.ExecuteToolResponse]:
        try:
            with use(self.identity):
                call = self._executions.ExecuteTool(request, timeout=30)
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    def begin(self, tool: tool_pb2.Tool) -> Any:
        """The call itself, to be read and cancelled by hand."""
        with use(self.identity):
            return self._executions.ExecuteTool(execution_pb.ExecuteToolRequest(tool_id=tool.id), timeout=30)

    async def execute(self, tool: tool_pb2.Tool, version: int = 0, **arguments: Any) -> "Executed":
        request = execution_pb.ExecuteToolRequest(tool_id=tool.id, version=version, arguments=struct(arguments))
        return await self.executed(request)

    async def executed(self, request: execution_pb.ExecuteToolRequest) -> "Executed":
        responses = [response async for response in self.stream(request)]
        assert [response.WhichOneof("kind") for response in responses[:-1]] == ["output"] * (len(responses) - 1)
        assert responses[-1].WhichOneof("kind") == "result"
        return Executed("".join(response.output.text for response in responses[:-1]), responses[-1].result)


class Executed:
    """What a call printed, and how it ended."""

    def __init__(self, output: str, result: execution_pb.ToolExecutionResult) -> None:
        self.output = output
        self.result = result
        self.value = json_format.MessageToDict(result.value) if result.HasField("value") else None


class Organization:
    """Callers of a fresh organization."""

    def __init__(self, channel: grpc.aio.Channel, issuer: Issuer) -> None:
        self.id = ids.new()
        self._issuer = issuer
        self.rebind(channel)

    def rebind(self, channel: grpc.aio.Channel) -> None:
        """Calls over another channel from now on."""
        issuer = self._issuer
        self.member = Caller(channel, issuer.identity(self.id))
        self.viewer = Caller(channel, issuer.identity(self.id, Role.VIEWER))
        self.admin = Caller(channel, issuer.identity(self.id, Role.ORGANIZATION_ADMIN))
        self.service = Caller(channel, issuer.identity(self.id, Role.SERVICE, on_behalf_of="user_of_a_test"))


def spec(source: str = ADD, parameters: dict[str, Any] | None = None, **fields: Any) -> pb.ToolSpec:
    message = pb.ToolSpec(source_code=source, **fields)
    if parameters is not None:
        message.parameters.CopyFrom(struct(parameters))
    return message


def struct(values: dict[str, Any]) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(values)
    return message


def plain(message: struct_pb2.Struct) -> dict[str, Any]:
    return json_format.MessageToDict(message)


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
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
