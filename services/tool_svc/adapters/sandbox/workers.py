"""The supply of workers: some kept waiting, others made when a call needs more, each replaced after its one call."""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tool_svc.adapters.sandbox import scratch
from tool_svc.adapters.sandbox.fork_server import ForkServer, Worker
from tool_svc.interfaces.sandbox import SandboxUnavailable

_LOG = logging.getLogger(__name__)
_READY_TIMEOUT_S = 20.0
_RESTART_DELAYS_S = (0.1, 1.0, 5.0, 15.0)
# Workers that have been killed still occupy a slot until their folder is gone.
_ENDING_SLOTS = 16


@dataclass(frozen=True)
class WorkerSettings:
    """How workers are held: `waiting` of them ready, at most `running` at work. See PoolSettings for the rest."""

    root: Path
    waiting: int
    running: int
    first_uid: int
    packages_root: Path | None
    landlock_abi: int


class Workers:
    """Keeps a fork server and its workers. A fork server that is lost is started again."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._server: ForkServer | None = None
        self._area: scratch.ScratchArea | None = None
        self._idle: deque[Worker] = deque()
        slots = settings.waiting + settings.running + _ENDING_SLOTS
        self._free_slots: deque[int] = deque(range(slots))
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    @property
    def fork_server_pid(self) -> int:
        """The fork server's process id; 0 when it does not run."""
        return self._server.pid if self._server is not None else 0

    async def start(self) -> None:
        """Start the fork server and let workers wait. Raises SandboxUnavailable."""
        settings = self._settings
        try:
            self._area = await asyncio.to_thread(scratch.ScratchArea, settings.root)
        except OSError as error:
            raise SandboxUnavailable(f"The sandbox has no scratch folder: {error}") from error
        self._server = ForkServer(
            settings.landlock_abi, settings.first_uid, self._area.path, settings.packages_root, self._on_lost
        )
        self._server.start()
        self._replenish()

    async def stop(self) -> None:
        """End all workers and the fork server; remove the folders."""
        self._stopping = True
        while self._idle:
            self._dispose_later(self._idle.popleft())
        if self._server is not None:
            await self._server.stop()
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server = None
        if self._area is not None:
            await asyncio.to_thread(self._area.close)
            self._area = None

    @asynccontextmanager
    async def any(self) -> AsyncGenerator[Worker]:
        """A ready worker, which ends with the block. Raises SandboxUnavailable."""
        worker = await self._take()
        try:
            yield worker
        finally:
            self._dispose_later(worker)

    @asynccontextmanager
    async def special(self, packages: Path | None, egress: socket.socket | None) -> AsyncGenerator[Worker]:
        """As `any`, a worker made for this block, which may import from `packages` and reach what is behind `egress`."""
        worker = await self._spawn(packages, egress)
        try:
            await self._ready(worker)
            yield worker
        finally:
            self._dispose_later(worker)

    def kill(self, worker: Worker) -> None:
        """End one at once."""
        if self._server is not None:
            self._server.kill(worker)

    async def _take(self) -> Worker:
        """A waiting worker. One that ended while it waited (say, killed for memory) is replaced once."""
        for _ in range(2):
            worker = self._idle.popleft() if self._idle else await self._spawn()
            self._replenish()
            try:
                await self._ready(worker)
            except BaseException:
                self._dispose_later(worker)
                raise
            if not worker.exited.done():
                return worker
            self._dispose_later(worker)
        raise SandboxUnavailable("Workers end before they get a call.")

    async def _ready(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await asyncio.shield(worker.ready)
        except TimeoutError:
            raise SandboxUnavailable("A worker did not become ready in time.") from None

    def _replenish(self) -> None:
        if self._stopping or self._server is None:
            return
        while len(self._idle) < self._settings.waiting and self._free_slots:
            try:
                self._idle.append(self._spawn_now())
            except (SandboxUnavailable, OSError) as error:
                _LOG.warning("no sandbox worker could be started: %s", error)
                return

    async def _spawn(self, packages: Path | None = None, egress: socket.socket | None = None) -> Worker:
        deadline = asyncio.get_running_loop().time() + _READY_TIMEOUT_S
        while not self._free_slots:  # All are being removed; that takes milliseconds.
            if asyncio.get_running_loop().time() > deadline:
                raise SandboxUnavailable("No sandbox slot became free in time.")
            await asyncio.sleep(0.01)
        try:
            return self._spawn_now(packages, egress)
        except OSError as error:
            raise SandboxUnavailable(f"A worker could not be started: {error}") from error

    def _spawn_now(self, packages: Path | None = None, egress: socket.socket | None = None) -> Worker:
        if self._server is None or self._area is None:
            raise SandboxUnavailable("The sandbox does not run.")
        folder = self._area.make()
        slot = self._free_slots.popleft()
        try:
            return self._server.spawn(slot, folder, packages, egress)
        except BaseException:
            self._free_slots.append(slot)
            folder.rmdir()
            raise

    def _dispose_later(self, worker: Worker) -> None:
        self._background(self._dispose(worker))

    async def _dispose(self, worker: Worker) -> None:
        self.kill(worker)
        await worker.exited
        worker.close()
        try:
            if not scratch.remove_empty(worker.scratch):
                await asyncio.to_thread(scratch.remove, worker.scratch)
        except OSError as error:
            _LOG.error("the folder of a sandbox worker could not be removed: %s", error)
        self._free_slots.append(worker.slot)
        self._replenish()

    def _on_lost(self) -> None:
        _LOG.error("the sandbox's fork server ended; it is started again")
        while self._idle:
            self._dispose_later(self._idle.popleft())
        if not self._stopping:
            self._background(self._restart())

    async def _restart(self) -> None:
        attempt = 0
        while not self._stopping:
            await asyncio.sleep(_RESTART_DELAYS_S[min(attempt, len(_RESTART_DELAYS_S) - 1)])
            attempt += 1
            if self._stopping or self._server is None:
                return
            try:
                self._server.start()
            except OSError as error:
                _LOG.error("the sandbox's fork server could not be started: %s", error)
                continue
            self._replenish()
            return

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
