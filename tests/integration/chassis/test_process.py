"""A service as a process: it says what is wrong, tells its health, and ends in order."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import psycopg
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from hearth.user.v1 import token_service_pb2
from hearth.user.v1.token_service_pb2_grpc import TokenServiceStub
from tests.support.databases import Databases

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _health_stub(channel: grpc.aio.Channel) -> Any:
    untyped: Any = health_pb2_grpc
    return untyped.HealthStub(channel)


def _reflection_stub(channel: grpc.aio.Channel) -> Any:
    untyped: Any = reflection_pb2_grpc
    return untyped.ServerReflectionStub(channel)


class Process:
    """The running service, its address, and what it logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid
        self.lines: list[dict[str, Any]] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.lines.append(json.loads(line))

    async def said(self, message: str) -> dict[str, Any]:
        async with asyncio.timeout(20):
            while True:
                for line in self.lines:
                    if line["message"] == message:
                        return line
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        code = await asyncio.wait_for(self._process.wait(), 20)
        await self._reading
        return code


async def _start(*arguments: str, **environment: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.chassis.service",
        *arguments,
        env={name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")} | environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    return Process(process)


@pytest.fixture
async def service() -> AsyncIterator[tuple[Process, str]]:
    running = await _start(HEARTH_LISTEN="127.0.0.1:0", HEARTH_ENVIRONMENT="development")
    try:
        yield running, f"127.0.0.1:{(await running.said('serving'))['port']}"
    finally:
        with suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGKILL)
        await running.ended()


async def _health(channel: grpc.aio.Channel, service: str) -> int:
    answer = await _health_stub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return answer.status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order_and_running_calls_finish(
    service: tuple[Process, str], number: signal.Signals
) -> None:
    process, address = service
    async with grpc.aio.insecure_channel(address) as channel:
        assert await _health(channel, "") == _SERVING
        assert await _health(channel, "hearth.user.v1.TokenService") == _SERVING
        watch = _health_stub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        first = await watch.read()
        assert isinstance(first, health_pb2.HealthCheckResponse)
        call = TokenServiceStub(channel).GetJwks(token_service_pb2.GetJwksRequest())
        await process.said("begun")
        os.kill(process.pid, number)
        second = await watch.read()
        assert isinstance(second, health_pb2.HealthCheckResponse)
        assert second.status == _NOT_SERVING
        watch.cancel()
        assert await call == token_service_pb2.GetJwksResponse()
    assert await process.ended() == 0
    said = [line["message"] for line in process.lines]
    order = [
        "background started",
        "serving",
        "stopping",
        "background stopped",
        "did not stop well",
        "closed",
        "stopped",
    ]
    assert [message for message in said if message in order] == order


async def test_reflection_in_development(service: tuple[Process, str]) -> None:
    _, address = service
    async with grpc.aio.insecure_channel(address) as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = _reflection_stub(channel).ServerReflectionInfo(iter([request]))
        answer = await call.read()
        assert isinstance(answer, reflection_pb2.ServerReflectionResponse)
        names = {service.name for service in answer.list_services_response.service}
    assert {"hearth.user.v1.TokenService", "grpc.health.v1.Health"} <= names


async def test_no_reflection_in_production() -> None:
    process = await _start(HEARTH_LISTEN="127.0.0.1:0")
    address = f"127.0.0.1:{(await process.said('serving'))['port']}"
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            call = _reflection_stub(channel).ServerReflectionInfo(iter([request]))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        os.kill(process.pid, signal.SIGTERM)
        assert await process.ended() == 0


async def test_an_address_in_use_is_an_error_that_says_so(service: tuple[Process, str]) -> None:
    _, address = service
    second = await _start(HEARTH_LISTEN=address)
    assert await second.ended() == 1
    assert any(line["message"] == "service failed" and address in line["stack"] for line in second.lines)


async def test_wrong_settings_are_named_and_not_shown() -> None:
    process = await _start(HEARTH_ENVIRONMENT="secret-value", HEARTH_DATABASE_POOL_SIZE="0")
    assert await process.ended() == 1
    text = json.dumps(process.lines)
    assert "environment" in text
    assert "database_pool_size" in text
    assert "secret-value" not in text


async def test_a_service_that_cannot_be_built_ends_whatever_it_began() -> None:
    process = await _start(HEARTH_BUILD="fails")
    assert await process.ended() == 1
    assert "cannot be built" in (await process.said("service failed"))["stack"]
    await process.said("does not end: stubborn")


async def test_a_service_can_be_stopped_while_it_is_built() -> None:
    process = await _start(HEARTH_BUILD="hangs")
    await process.said("hanging")
    os.kill(process.pid, signal.SIGTERM)
    assert await process.ended() == 0
    await process.said("stopped before it was built")


async def test_unknown_arguments_end_with_usage() -> None:
    assert await (await _start("nonsense")).ended() == 2


async def test_migrate(databases: Databases) -> None:
    database = databases.empty()
    process = await _start("migrate", HEARTH_DATABASE_OWNER_URL=database.owner_url)
    assert await process.ended() == 0
    with psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (0,)


async def test_migrate_without_a_database_fails_and_shows_no_password() -> None:
    process = await _start("migrate", HEARTH_DATABASE_OWNER_URL="postgresql://owner:pass-word@127.0.0.1:1/x")
    assert await process.ended() == 1
    assert "pass-word" not in json.dumps(process.lines)
