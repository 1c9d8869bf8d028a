"""What the kernel says about processes: identity that survives the reuse of a pid, children, memory; and ending them."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil


def started(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot: with the pid it names one process only. None: gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def alive(pid: int, started_at: int | None) -> bool:
    """Whether the process that started then still runs."""
    return started_at is not None and started(pid) == started_at


def family(pid: int) -> list[int]:
    """The process and all its descendants; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [pid, *(child.pid for child in root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def memory_bytes(pids: Iterable[int]) -> int | None:
    """Proportional set size of the processes together: a page shared by n of them counts a n-th for each. None: not ours to read."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except PermissionError:
            return None
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def kill_group(pid: int) -> None:
    """Ends what is left of the process group that `pid` led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end(pid: int, started_at: int, number: int, timeout_s: float) -> bool:
    """Asks a process to end with signal `number`, kills its group after `timeout_s`. False: it was gone already."""
    if not alive(pid, started_at):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + timeout_s
    while alive(pid, started_at) and time.monotonic() < deadline:
        time.sleep(0.05)
    if alive(pid, started_at):
        kill_group(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while alive(pid, started_at):
            time.sleep(0.02)
    return True
