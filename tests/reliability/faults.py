"""Faults for a running stack: at named points of a turn, and to whole processes, one after the other in an order that a seed gives."""

import asyncio
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from chassis import failpoints
from deploy.local import Stack
from deploy.local.stack import StackError

# The points of a turn at which agent_svc can be made to fail; see the calls of chassis.failpoints.failpoint.
POINTS = (
    "run.accepted",
    "turn.claimed",
    "model.streaming",
    "step.committing",
    "step.committed",
    "tool.begun",
    "tool.ended",
    "run.ending",
    "run.ended",
    "lease.renewing",
    "cancel.committed",
)
KILLED = ("agent_svc", "agent_svc_2", "tool_svc", "memory_svc", "user_svc", "gateway", "nats", "postgres", "envoy")
# Longer than a lease of six seconds, which then is another's.
PAST_LEASE_S = 7.5


@dataclass(frozen=True)
class Fault:
    """`at` a failpoint, or on a process; `action` is kill, stop or restart."""

    action: str
    process: str = ""
    at: str = ""

    def __str__(self) -> str:
        return f"{self.action} {self.at or self.process}"


def plan(chance: random.Random) -> list[Fault]:
    """Every point and every process at least once, in the order of chance."""
    faults = [Fault("kill", at=point) for point in POINTS]
    faults += [Fault("stop", at=point) for point in ("step.committing", "run.ending", "lease.renewing")]
    faults += [Fault("kill", name) for name in KILLED]
    faults += [Fault("stop", name) for name in ("agent_svc", "agent_svc_2", "nats", "tool_svc")]
    faults += [Fault("restart", name) for name in ("agent_svc", "agent_svc_2")]
    chance.shuffle(faults)
    return faults


@dataclass
class Faults:
    """Does faults to a stack; `happened` has those that took place, with when."""

    stack: Stack
    folder: Path
    happened: list[tuple[Fault, float]] = field(default_factory=list[tuple[Fault, float]])
    _waking: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def do(self, fault: Fault) -> None:
        """Returns once the fault has happened, or nobody came by its point for two seconds."""
        if fault.at:
            pid = await self._at_point(fault)
        else:
            pid = await self._on_process(fault)
        if pid:
            self.happened.append((fault, time.time()))
        if pid and fault.action == "stop":
            self._waking.append(asyncio.create_task(_wake(pid)))

    async def over(self) -> None:
        """Returns when no process is stopped any more and all are ready."""
        await asyncio.gather(*self._waking)
        await asyncio.to_thread(self.stack.wait_ready, None, 60.0)

    async def _at_point(self, fault: Fault) -> int:
        before = set(failpoints.taken(self.folder, fault.at))
        failpoints.plant(self.folder, fault.at, fault.action)
        for _ in range(40):
            await asyncio.sleep(0.05)
            now = set(failpoints.taken(self.folder, fault.at)) - before
            if now:
                return now.pop()
        (self.folder / fault.at).unlink(missing_ok=True)
        return 0

    async def _on_process(self, fault: Fault) -> int:
        try:
            if fault.action == "restart":
                return await asyncio.to_thread(self.stack.kill, fault.process, signal.SIGTERM)
            number = signal.SIGKILL if fault.action == "kill" else signal.SIGSTOP
            return await asyncio.to_thread(self.stack.kill, fault.process, number)
        except StackError:
            # It is on its way up from the fault before.
            return 0


async def _wake(pid: int) -> None:
    await asyncio.sleep(PAST_LEASE_S)
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return
