"""`python -m gateway`: settings → build → serve until SIGTERM, then drain."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import uvloop
from aiohttp import web
from pydantic import ValidationError

from chassis import logs
from gateway.factory import build
from gateway.settings import GatewaySettings

_log = logging.getLogger("gateway")


def main() -> None:
    """Serve. Ends the process with status 1 after logging why it cannot start."""
    logs.configure("gateway")
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        wrong = [f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_input=False)]
        _log.critical("settings are wrong: %s", "; ".join(wrong))
        sys.exit(1)
    logs.configure("gateway", settings.log_level)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))
    except Exception:
        _log.critical("the gateway failed", exc_info=True)
        sys.exit(1)


async def serve(settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises ValueError for unusable settings, OSError when the port is taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    built = build(settings)
    runner = web.AppRunner(built.gateway.application(), access_log=None, shutdown_timeout=settings.shutdown_grace_s)
    try:
        await built.revocations.start()
        await runner.setup()
        host, _, port = settings.listen.rpartition(":")
        await web.TCPSite(runner, host.strip("[]"), int(port), backlog=1024).start()
        built.gateway.start()
        _log.info("serving", extra={"port": runner.addresses[0][1]})
        await stop.wait()
        _log.info("draining", extra={"connections": built.gateway.connections})
        await built.gateway.drain()
    finally:
        await built.gateway.stop()
        await runner.cleanup()
        await built.close()
    _log.info("stopped")


if __name__ == "__main__":
    main()
