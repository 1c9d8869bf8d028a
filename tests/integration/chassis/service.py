"""A service of nothing but the chassis, run as a process by tests: `python -m tests.integration.chassis.service`."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from chassis.server import Assembly, run
from chassis.settings import ServiceSettings
from hearth.user.v1 import token_service_pb2
from hearth.user.v1.token_service_pb2_grpc import TokenServiceServicer, add_TokenServiceServicer_to_server

_log = logging.getLogger("service")

_KEPT: list[asyncio.Task[None]] = []


_Base: Any = TokenServiceServicer


class Slow(_Base):
    """Takes a second for its answer."""

    async def GetJwks(
        self, request: token_service_pb2.GetJwksRequest, context: Any
    ) -> token_service_pb2.GetJwksResponse:
        _log.info("begun")
        await asyncio.sleep(1)
        return token_service_pb2.GetJwksResponse()


class Ticker:
    """Background work that says when it starts and stops."""

    async def start(self) -> None:
        _log.info("background started")

    async def stop(self) -> None:
        _log.info("background stopped")
        raise RuntimeError("stopping failed")


async def _close() -> None:
    _log.info("closed")


class Settings(ServiceSettings):
    """`HEARTH_BUILD=fails` or `hangs`, to see what the process does then."""

    build: str = "works"


async def _stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            _log.info("not me")


async def build(settings: Settings) -> Assembly:
    if settings.build == "fails":
        _KEPT.append(asyncio.create_task(_stubborn(), name="stubborn"))
        await asyncio.sleep(0)
        raise ValueError("cannot be built")
    if settings.build == "hangs":
        _log.info("hanging")
        await asyncio.sleep(60)
    return Assembly(
        servicers=[(add_TokenServiceServicer_to_server, Slow(), "hearth.user.v1.TokenService")],
        verifier=None,
        background=[Ticker()],
        closers=[_close],
    )


if __name__ == "__main__":
    run("test_svc", Settings, build, migrations=Path(__file__).parent / "migrations")
