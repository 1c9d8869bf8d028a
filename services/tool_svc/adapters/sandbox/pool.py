"""The sandbox: keeps confined workers warm, gives each call one, ends it, and replaces it."""

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tool_svc.adapters.sandbox import canary, landlock, scratch, syscalls
from tool_svc.adapters.sandbox.calls import RunningCall
from tool_svc.adapters.sandbox.fork_server import ForkServer, Worker
from tool_svc.domain.execution import (
    Cancelled,
    ExecutionLimits,
    Limit,
    LimitExceeded,
    OutputChunk,
    SandboxCall,
    SandboxEvent,
    Succeeded,
)
from tool_svc.interfaces.egress import Egress
from tool_svc.interfaces.sandbox import SandboxBusy, SandboxUnavailable

_LOG = logging.getLogger(__name__)
_READY_TIMEOUT_S = 20.0
_SCRATCH_CHECK_S = 0.2
_RESTART_DELAYS_S = (0.1, 1.0, 5.0, 15.0)
_BUSY_RETRY_AFTER_S = 1.0
# Workers that have been killed still occupy a slot until their folder is gone.
_ENDING_SLOTS = 16


@dataclass(frozen=True)
class PoolSettings:
    """Sizes of a pool, and how its workers are held.

    `first_uid`: workers of a root service run as this user id + slot. `unconfined` leaves Landlock and seccomp out:
    every tool then has the service's rights. `packages_root`: where the packages lie that calls may name.
    """

    root: Path
    warm_workers: int = 3
    max_running: int = 8
    max_waiting: int = 64
    first_uid: int = 64_000
    unconfined: bool = False
    packages_root: Path | None = None


class SandboxPool:
    """Implements `Sandbox` with a fork server and one confined process per call."""

    def __init__(self, settings: PoolSettings, egress: Egress) -> None:
        self._settings = settings
        self._egress = egress
        self._server: ForkServer | None = None
        self._area: scratch.ScratchArea | None = None
        self._idle: deque[Worker] = deque()
        self._running: dict[str, RunningCall] = {}
        self._running_slots = asyncio.Semaphore(settings.max_running)
        self._waiting = 0
        slots = settings.warm_workers + settings.max_running + _ENDING_SLOTS
        self._free_slots: deque[int] = deque(range(slots))
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start the fork server and prove by a canary call that confinement holds. Raises SandboxUnavailable."""
        abi = self._landlock_abi()
        self._stopping = False
        try:
            self._area = await asyncio.to_thread(scratch.ScratchArea, self._settings.root)
        except OSError as error:
            raise SandboxUnavailable(f"The sandbox has no scratch folder: {error}") from error
        try:
            packages = self._settings.packages_root
            self._server = ForkServer(abi, self._settings.first_uid, self._area.path, packages, self._on_lost)
            self._server.start()
            self._replenish()
            self._watch = asyncio.create_task(self._watch_scratch())
            await self.probe()
        except BaseException:
            await self.stop()
            raise

    async def probe(self) -> None:
        """Run the canary: a tool that tries what no tool may. Raises SandboxUnavailable naming what it could do."""
        limits = ExecutionLimits(wall_time_s=10.0)
        source = canary.UNCONFINED_SOURCE if self._settings.unconfined else canary.SOURCE
        call = SandboxCall("canary", source, canary.ENTRY_POINT, {}, limits)
        last: SandboxEvent | None = None
        async with contextlib.aclosing(self.execute(call)) as events:
            async for event in events:
                last = event
        if not isinstance(last, Succeeded):
            raise SandboxUnavailable(f"The sandbox's canary did not run: {last}")
        if last.result_json != "[]":
            raise SandboxUnavailable(f"The sandbox does not hold; a tool could: {last.result_json}")

    async def stop(self) -> None:
        """End all calls (their streams end with Cancelled), all workers, the fork server; remove the folders."""
        self._stopping = True
        for running in list(self._running.values()):
            running.end(Cancelled())
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
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

    async def execute(self, call: SandboxCall) -> AsyncGenerator[SandboxEvent]:
        """Run one call; see `Sandbox.execute`."""
        async with self._place(), self._worker_for(call) as worker:
            running = RunningCall(call, worker, lambda: self._kill(worker))
            self._running[call.call_id] = running
            try:
                running.start()
                while True:
                    event = await running.events.get()
                    yield event
                    if not isinstance(event, OutputChunk):
                        return
            finally:
                running.end(Cancelled())
                self._running.pop(call.call_id, None)

    def cancel(self, call_id: str) -> bool:
        """End a running call at once; see `Sandbox.cancel`."""
        running = self._running.get(call_id)
        if running is None:
            return False
        running.end(Cancelled())
        return True

    @property
    def fork_server_pid(self) -> int:
        """The fork server's process id, for operators and tests; 0 when it does not run."""
        return self._server.pid if self._server is not None else 0

    def _landlock_abi(self) -> int:
        if self._settings.unconfined:
            _LOG.warning("tools run UNCONFINED: every tool has this service's rights")
            return 0
        try:
            syscalls.current()
            abi = landlock.abi_version()
        except OSError as error:
            raise SandboxUnavailable(str(error)) from error
        if abi == 0:
            raise SandboxUnavailable("This kernel has no Landlock (Linux 5.13 or later, enabled at boot, is needed).")
        return abi

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncGenerator[None]:
        if self._server is None or self._stopping:
            raise SandboxUnavailable("The sandbox does not run.")
        if self._running_slots.locked() and self._waiting >= self._settings.max_waiting:
            raise SandboxBusy(_BUSY_RETRY_AFTER_S)
        self._waiting += 1
        try:
            await self._running_slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._running_slots.release()

    @contextlib.asynccontextmanager
    async def _worker_for(self, call: SandboxCall) -> AsyncGenerator[Worker]:
        """A ready worker: a waiting one, or one made for a call with a network or packages; ended after the block."""
        if not call.allowed_hosts and call.packages is None:
            worker = await self._take_worker()
            try:
                yield worker
            finally:
                self._dispose_later(worker)
            return
        channels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if call.allowed_hosts else None
        session = self._egress.serve(channels[0], call.allowed_hosts) if channels else None
        try:
            worker = await self._spawn(call.packages, channels[1] if channels else None)
        except BaseException:
            if session is not None:
                session.close()
            raise
        finally:
            if channels:
                channels[1].close()
        try:
            await self._ready(worker)
            yield worker
        finally:
            if session is not None:
                session.close()
            self._dispose_later(worker)

    async def _take_worker(self) -> Worker:
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
        while len(self._idle) < self._settings.warm_workers and self._free_slots:
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

    def _kill(self, worker: Worker) -> None:
        if self._server is not None:
            self._server.kill(worker)

    def _dispose_later(self, worker: Worker) -> None:
        self._background(self._dispose(worker))

    async def _dispose(self, worker: Worker) -> None:
        self._kill(worker)
        await worker.exited
        worker.close()
        try:
            if not scratch.remove_empty(worker.scratch):
                await asyncio.to_thread(scratch.remove, worker.scratch)
        except OSError as error:
            _LOG.error("the folder of a sandbox worker could not be removed: %s", error)
        self._free_slots.append(worker.slot)
        self._replenish()

    async def _watch_scratch(self) -> None:
        """Ends calls whose files outgrow their limit; the kernel limits single files only."""
        while True:
            await asyncio.sleep(_SCRATCH_CHECK_S)
            for running in list(self._running.values()):
                limit = running.call.limits.scratch_bytes
                if await asyncio.to_thread(scratch.used_more_than, running.worker.scratch, limit):
                    message = f"The tool's files use more than {limit} bytes, or are too many or too deep."
                    running.end(LimitExceeded(Limit.SCRATCH, message))

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
