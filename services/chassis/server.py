"""The life of a service process: settings → build → serve → SIGTERM → NOT_SERVING → drain → stop."""

import asyncio
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pydantic import ValidationError

from chassis import logs
from chassis.auth import TokenVerifier
from chassis.channels import MAX_MESSAGE_BYTES
from chassis.edge import Edge, Registrar
from chassis.methods import methods_of
from chassis.migrations import migrate
from chassis.settings import ServiceSettings

_log = logging.getLogger(__name__)

# Seconds that tasks get to end when the process does.
_CANCEL_TIMEOUT_S = 2.0
# Seconds beyond the grace of running calls: what has not stopped then hangs.
_STOP_LIMIT_S = 8.0

_SERVING = health_pb2.HealthCheckResponse.SERVING


class Background(Protocol):
    """Work beside the calls. `start` returns once it is under way; `stop` returns once it has ended."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Assembly:
    """A built service: what the factory hands over. `servicers` holds (add function, servicer, full service name)."""

    servicers: Sequence[tuple[Callable[[Any, Any], None], Any, str]]
    verifier: TokenVerifier | None
    background: Sequence[Background] = ()
    closers: Sequence[Callable[[], Awaitable[None]]] = field(default=())


S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")


def run(
    name: str,
    settings: type[S],
    build: Callable[[S], Awaitable[Assembly]],
    *,
    migrations: Path | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """What `__main__.py` calls: serves until SIGTERM or SIGINT; with the argument `migrate`, migrates.

    Ends the process: status 0, 1 after logging why it failed, 2 for unknown arguments.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    logs.configure(name)
    try:
        values = settings()
    except ValidationError as error:
        wrong = [
            ".".join(str(part) for part in item["loc"]) + ": " + item["msg"]
            for item in error.errors(include_input=False)
        ]
        _log.critical("settings are wrong: %s", "; ".join(wrong))
        sys.exit(1)
    logs.configure(name, values.log_level)
    if given == ["migrate"] and migrations is not None:
        sys.exit(_migrate(values, migrations))
    elif not given:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(_main(name, values, build))
        sys.exit(code)
    else:
        _log.critical("usage: python -m %s [migrate]", name)
        sys.exit(2)


def _migrate(settings: ServiceSettings, migrations: Path) -> int:
    try:
        migrate(settings.database_owner_url.get_secret_value(), migrations)
    except Exception:
        _log.critical("migration failed", exc_info=True)
        return 1
    return 0


async def _main(name: str, settings: S, build: Callable[[S], Awaitable[Assembly]]) -> int:
    """The status that the process ends with."""
    code = 0
    try:
        await _serve(name, settings, build)
    except Exception:
        _log.critical("service failed", exc_info=True)
        code = 1
    if not await _all_tasks_ended():
        # Without this a task that does not let itself be cancelled would keep a failed process alive.
        os._exit(code)
    return code


async def _serve(name: str, settings: S, build: Callable[[S], Awaitable[Assembly]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    assembly = await _unless(stop, build(settings))
    if assembly is None:
        _log.info("stopped before it was built")
        return
    server = Server(assembly, settings)
    try:
        port = await server.start()
        _log.info("serving", extra={"port": port, "name_of_service": name})
        await stop.wait()
        _log.info("stopping")
        # Even where the loop itself is blocked: the log gets each thread's stack, and the process ends with status 1.
        faulthandler.dump_traceback_later(settings.shutdown_grace_s + _STOP_LIMIT_S, exit=True)
    finally:
        await server.stop()
    _log.info("stopped")


async def _unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The outcome of some work, None if it was stopped before there was one."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()


async def _all_tasks_ended() -> bool:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        _, left = await asyncio.wait(left, timeout=_CANCEL_TIMEOUT_S)
    for task in left:
        _log.warning("does not end: %s", task.get_name())
    return not left


class Server:
    """A gRPC server around an Assembly. `run` uses it; tests may start one in their own process."""

    def __init__(self, assembly: Assembly, settings: ServiceSettings) -> None:
        self._assembly = assembly
        self._settings = settings
        self._started: list[Background] = []
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=_options(settings))
        self._register()

    def _register(self) -> None:
        """Raises UndeclaredAccess for methods that nobody decided on."""
        edge = Edge(self._assembly.verifier)
        for add, servicer, service in self._assembly.servicers:
            add(servicer, Registrar(self._server, edge, service, methods_of(service)))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._settings.environment == "development":
            names = [service for _, _, service in self._assembly.servicers]
            reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def start(self) -> int:
        """Starts background work, then listens; returns the port. Raises RuntimeError when it cannot be bound."""
        for work in self._assembly.background:
            await work.start()
            self._started.append(work)
        port = self._server.add_insecure_port(self._settings.listen)
        await self._server.start()
        for service in ("", *(service for _, _, service in self._assembly.servicers)):
            await self._health.set(service, _SERVING)
        return port

    async def stop(self) -> None:
        """NOT_SERVING, then background work, then running calls (with grace), then whatever was opened, last first."""
        await self._health.enter_graceful_shutdown()
        for work in reversed(self._started):
            await _quietly(work.stop())
        await self._server.stop(self._settings.shutdown_grace_s)
        for close in reversed(self._assembly.closers):
            await _quietly(close())


async def _quietly(ending: Awaitable[None]) -> None:
    """Waits for one ending; a failure is logged, so that the others still happen."""
    try:
        await ending
    except Exception:
        _log.exception("did not stop well")


def _options(settings: ServiceSettings) -> list[tuple[str, int]]:
    options = [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    if settings.max_connection_age_s:
        options.append(("grpc.max_connection_age_ms", int(settings.max_connection_age_s * 1000)))
    return options
