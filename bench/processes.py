"""CPU time and memory of the stack's processes, by component, as /proc tells them."""

import os
from collections.abc import Mapping
from pathlib import Path

OWN = ("user_svc", "tool_svc", "memory_svc", "agent_svc", "gateway")
STORES = ("postgres", "nats")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_ms(processes: Mapping[str, list[int]]) -> dict[str, float]:
    """CPU milliseconds spent so far by each component, ended and reaped children included. Resolution: 10 ms a process."""
    return {name: sum(_cpu_ms(pid) for pid in pids) for name, pids in processes.items()}


def _cpu_ms(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # utime, stime, cutime, cstime: fields 14 to 17 of proc(5), counted from the one after the name, which is the third.
    return sum(int(field) for field in fields[11:15]) * 1000 / _TICKS_PER_S


def memory_mib(processes: Mapping[str, list[int]]) -> dict[str, float]:
    """MiB of memory (PSS: shared pages counted by share) of each component."""
    return {name: sum(_pss_kib(pid) for pid in pids) / 1024 for name, pids in processes.items()}


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
