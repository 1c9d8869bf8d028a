"""The sandbox: gives each call a confined worker, follows it, keeps its limits, and ends it."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from tool_svc.adapters.sandbox import canary, landlock, scratch, syscalls
from tool_svc.adapters.sandbox.calls import RunningCall
from tool_svc.adapters.sandbox.fork_server import Worker
from tool_svc.adapters.sandbox.workers import Workers, WorkerSettings
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
_SCRATCH_CHECK_S = 0.2
_BUSY_RETRY_AFTER_S = 1.0


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
        self._workers: Workers | None = None
        self._running: dict[str, RunningCall] = {}
        self._running_slots = asyncio.Semaphore(settings.max_running)
        self._waiting = 0
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the workers and prove by a canary call that confinement holds. Raises SandboxUnavailable."""
        settings = self._settings
        workers = Workers(
            WorkerSettings(
                root=settings.root,
                waiting=settings.warm_workers,
                running=settings.max_running,
                first_uid=settings.first_uid,
                packages_root=settings.packages_root,
                landlock_abi=self._landlock_abi(),
            )
        )
        self._workers = workers
        try:
            await workers.start()
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
        workers, self._workers = self._workers, None
        for running in list(self._running.values()):
            running.end(Cancelled())
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if workers is not None:
            await workers.stop()

    async def execute(self, call: SandboxCall) -> AsyncGenerator[SandboxEvent]:
        """Run one call; see `Sandbox.execute`."""
        async with self._place() as workers, self._worker_for(call, workers) as worker:
            running = RunningCall(call, worker, lambda: workers.kill(worker))
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
        return self._workers.fork_server_pid if self._workers is not None else 0

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
    async def _place(self) -> AsyncGenerator[Workers]:
        """One of the places for calls that run, and who has workers for it. Raises SandboxBusy, SandboxUnavailable."""
        if self._running_slots.locked() and self._waiting >= self._settings.max_waiting:
            raise SandboxBusy(_BUSY_RETRY_AFTER_S)
        self._waiting += 1
        try:
            await self._running_slots.acquire()
        finally:
            self._waiting -= 1
        try:
            if self._workers is None:
                raise SandboxUnavailable("The sandbox does not run.")
            yield self._workers
        finally:
            self._running_slots.release()

    @contextlib.asynccontextmanager
    async def _worker_for(self, call: SandboxCall, workers: Workers) -> AsyncGenerator[Worker]:
        """A waiting worker, or one made for a call with a network or packages; ended after the block."""
        if call.allowed_hosts:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            # The process has its copy when it is ready; ours of its end would keep the channel open.
            with theirs, contextlib.closing(self._egress.serve(ours, call.allowed_hosts)):
                async with workers.special(call.packages, theirs) as worker:
                    theirs.close()
                    yield worker
        elif call.packages is not None:
            async with workers.special(call.packages, None) as worker:
                yield worker
        else:
            async with workers.any() as worker:
                yield worker

    async def _watch_scratch(self) -> None:
        """Ends calls whose files outgrow their limit; the kernel limits single files only."""
        while True:
            await asyncio.sleep(_SCRATCH_CHECK_S)
            for running in list(self._running.values()):
                limit = running.call.limits.scratch_bytes
                if await asyncio.to_thread(scratch.used_more_than, running.worker.scratch, limit):
                    message = f"The tool's files use more than {limit} bytes, or are too many or too deep."
                    running.end(LimitExceeded(Limit.SCRATCH, message))
