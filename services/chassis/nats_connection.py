"""One connection to NATS: made in the background and again for ever. A NATS that is down is no error of whoever uses it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import DEFAULT_INBOX_PREFIX, Client

from chassis.tasks import end_task

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
_FIRST_S = 3.0


class NatsConnection:
    """`url` names the user whose subjects it may use; answers come to inboxes of that user's own, `_INBOX.<user>.>`."""

    def __init__(self, url: str, name: str) -> None:
        self.client = Client()
        self._url = url
        self._name = name
        self._callbacks: list[Callable[[], Awaitable[None]]] = []
        self._connecting: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether it can be used right now."""
        return self.client.is_connected

    def on_connect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Calls this at each new connection, the first one included: what the server held for the last may be gone."""
        self._callbacks.append(callback)

    async def open(self) -> None:
        """Begins to connect and waits for it a moment; without an address it stays as if NATS were down."""
        if not self._url:
            _log.warning("HEARTH_NATS_URL is not set: work goes on without NATS")
            return
        self._connecting = asyncio.create_task(self._connect())
        await asyncio.wait({self._connecting}, timeout=_FIRST_S)

    async def close(self) -> None:
        """Ends it, after what was published has been sent."""
        if self._connecting is None:
            return
        await end_task(self._connecting)
        if self.client.is_connected:
            # One that hangs does not keep this process from ending.
            with suppress(nats.errors.Error, OSError):
                await self.client.flush(timeout=1)
        await self.client.close()

    async def _connect(self) -> None:
        user = urlsplit(self._url).username
        while True:
            try:
                await self.client.connect(
                    self._url,
                    name=self._name,
                    no_echo=True,
                    allow_reconnect=True,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    connect_timeout=2,
                    inbox_prefix=DEFAULT_INBOX_PREFIX + (f".{user}".encode() if user else b""),
                    error_cb=_on_error,
                    disconnected_cb=_on_disconnect,
                    reconnected_cb=self._on_reconnect,
                )
            except (OSError, nats.errors.Error, TimeoutError) as error:
                _log.warning("NATS does not answer", extra={"error": type(error).__name__})
                await asyncio.sleep(_RETRY_S)
            else:
                await self._tell()
                return

    async def _on_reconnect(self) -> None:
        _log.info("NATS is back")
        await self._tell()

    async def _tell(self) -> None:
        for callback in self._callbacks:
            await callback()


async def _on_error(error: Exception) -> None:
    _log.debug("NATS: %s", type(error).__name__)


async def _on_disconnect(*_: Any) -> None:
    _log.warning("NATS is gone; work goes on without it")
