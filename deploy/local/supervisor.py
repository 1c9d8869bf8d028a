"""Starts components in the order of their needs, keeps them running, and stops them from the top down."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deploy.local.component import Component
from deploy.local.processes import kill_group, started

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_S = 0.05
# Pauses before the first, second, … restart of a process that keeps dying, in seconds.
_BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
# A process that was ready for this long has not failed at its start: its pauses begin anew.
_STEADY_S = 3.0
_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_TAIL_LINES = 20


class StartError(Exception):
    """A component did not become ready; the text names it and ends with the last lines of its log."""


class Supervised:
    """One component and its current process."""

    def __init__(
        self, component: Component, log: Path, changed: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        self.component = component
        self.log = log
        self.state = "waiting"
        self.restarts = 0
        self.ready = asyncio.Event()
        self._changed = changed
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._started: int | None = None

    def record(self) -> dict[str, Any]:
        """What other processes may know."""
        return {
            "pid": self._process.pid if self._process else None,
            "started": self._started,
            "address": self.component.address,
            "state": self.state,
            "restarts": self.restarts,
            "stop_signal": int(self.component.stop_signal),
            "stop_timeout_s": self.component.stop_timeout_s,
            "tier": self.component.tier,
            "log": str(self.log),
        }

    async def start(self) -> None:
        """Prepares, starts, and returns when it is ready. Raises StartError; the process is then ended."""
        name = self.component.name
        begin = time.monotonic()
        self._set("starting")
        try:
            async with asyncio.timeout(self.component.start_timeout_s):
                if self.component.prepare is not None:
                    await self.component.prepare()
                self._spawn()
                await self._until_ready()
                if self.component.finish is not None:
                    await self.component.finish()
        except TimeoutError:
            await self.end(signal.SIGKILL)
            raise self._failure(f"was not ready within {self.component.start_timeout_s:.0f} s") from None
        except StartError as error:
            await self.end(signal.SIGKILL)
            raise self._failure(str(error)) from None
        except BaseException:
            await self.end(self.component.stop_signal)
            raise
        self._set("ready")
        self.ready.set()
        self._say(f"  {name:<12} ready in {time.monotonic() - begin:4.1f} s   {self.component.address}")

    async def keep(self) -> None:
        """Restarts the process each time it ends, until cancelled."""
        attempt = 0
        while True:
            ready_at = time.monotonic()
            status = await self._ended()
            attempt = 0 if time.monotonic() - ready_at > _STEADY_S else attempt
            while True:
                pause = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
                attempt += 1
                self.ready.clear()
                self._set("restarting")
                self._say(f"{self.component.name} ended ({status}); starting it again in {pause:g} s")
                await asyncio.sleep(pause)
                self.restarts += 1
                try:
                    await self.start()
                    break
                except StartError as error:
                    status = str(error)

    async def end(self, number: int, timeout_s: float | None = None) -> None:
        """Sends `number` and waits; what is left after the component's patience, or after a process's end, is killed."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            self._set("stopping")
            process.send_signal(number)
            try:
                async with asyncio.timeout(self.component.stop_timeout_s if timeout_s is None else timeout_s):
                    await self._ended()
            except TimeoutError:
                self._say(f"{self.component.name} did not stop in time and is killed")
                kill_group(process.pid)
                await self._ended()
        self._process = None
        self._set("stopped")

    def _spawn(self) -> None:
        component = self.component
        _rotate(self.log)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*launcher(component.stop_signal, component.user), *component.command],
                env=dict(component.env),
                cwd=component.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: a Ctrl-C in the terminal reaches the runner only, which then stops all in order.
                start_new_session=True,
            )
        self._started = started(self._process.pid)
        self._changed()

    async def _until_ready(self) -> None:
        ended = asyncio.ensure_future(self._ended())
        try:
            while not ended.done():
                with contextlib.suppress(OSError):
                    if await self.component.ready():
                        return
                await asyncio.wait([ended], timeout=_POLL_S)
            raise StartError(f"ended while it started ({ended.result()})")
        finally:
            ended.cancel()

    async def _ended(self) -> str:
        """Waits for the end of the current process and says how it was. What it left of its group is killed."""
        process = self._process
        if process is None:
            return "not started"
        if process.returncode is None:
            loop = asyncio.get_running_loop()
            gone = asyncio.Event()
            descriptor = os.pidfd_open(process.pid)
            loop.add_reader(descriptor, gone.set)
            try:
                await gone.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
            # Before the leader is waited for: until then its pid, and so the group's, cannot be another's.
            kill_group(process.pid)
        code = process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _failure(self, reason: str) -> StartError:
        return StartError(f"{self.component.name} {reason}\n--- last lines of {self.log}\n{tail(self.log)}")

    def _set(self, state: str) -> None:
        self.state = state
        self._changed()


class Supervisor:
    """All components of a stack."""

    def __init__(
        self,
        components: Sequence[Component],
        logs: Path,
        changed: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.supervised = {c.name: Supervised(c, logs / f"{c.name}.log", changed, say) for c in components}
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts all, in parallel where needs allow. Raises the StartError of the first that fails."""
        try:
            async with asyncio.TaskGroup() as group:
                for one in self.supervised.values():
                    group.create_task(self._start(one))
        except* StartError as failures:
            raise failures.exceptions[0] from None
        self._keepers = [asyncio.create_task(one.keep()) for one in self.supervised.values()]

    async def stop(self) -> None:
        """Stops all, the highest tier first."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        tiers = sorted({one.component.tier for one in self.supervised.values()}, reverse=True)
        for tier in tiers:
            those = [one for one in self.supervised.values() if one.component.tier == tier]
            await asyncio.gather(*(one.end(one.component.stop_signal) for one in those))

    def kill(self) -> None:
        """Ends everything at once, for the impatient."""
        for one in self.supervised.values():
            pid = one.record()["pid"]
            if pid is not None:
                kill_group(pid)

    async def _start(self, one: Supervised) -> None:
        for need in one.component.needs:
            await self.supervised[need].ready.wait()
        await one.start()


def launcher(end_signal: int, user: tuple[int, int] | None = None) -> list[str]:
    """What stands before a command so that it runs as `user` and gets `end_signal` when this process dies."""
    uid, gid = user or (-1, -1)
    words = (os.getpid(), int(end_signal), uid, gid)
    return [sys.executable, "-I", "-S", str(_LAUNCHER), *(str(word) for word in words)]


def tail(log: Path) -> str:
    """The last lines of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])
    except FileNotFoundError:
        return "(nothing was logged)"


def _rotate(log: Path) -> None:
    """Keeps one older file once a log has grown large."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".log.1"))
