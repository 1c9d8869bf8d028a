"""`make status`: each process of the stack, whether it answers, and what memory it takes."""

import asyncio
from typing import Any

from deploy.local.component import http_get
from deploy.local.home import Home
from deploy.local.processes import alive, family, memory_bytes

_HEARTH = ("user_svc", "tool_svc", "memory_svc", "agent_svc", "gateway")
_HEADINGS = ("component", "pid", "address", "health", "restarts", "memory MB")


def show(home: Home) -> int:
    """Prints the table. Returns 0 when the stack is up and every process is healthy, else 1."""
    record = home.running_record()
    if record is None:
        print(f"Hearth is not running in {home.root}")
        return 1
    rows, healthy = asyncio.run(_rows(record))
    widths = [max(len(row[column]) for row in [_HEADINGS, *rows]) for column in range(len(_HEADINGS))]
    print(f"Hearth is {record['state']} at {record['url']}\n")
    for row in [_HEADINGS, *rows]:
        cells = (
            text.rjust(width) if column in (1, 4, 5) else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join(cells).rstrip())
    print("\nmemory: proportional set size (PSS) of the process and its children")
    return 0 if healthy and record["state"] == "ready" else 1


async def _rows(record: dict[str, Any]) -> tuple[list[tuple[str, ...]], bool]:
    rows: list[tuple[str, ...]] = []
    totals = {"Hearth's five": 0, "all": 0}
    healthy = True
    for name, one in record["processes"].items():
        pid: int | None = one["pid"] if alive(one["pid"] or 0, one["started"]) else None
        health = one["state"] if pid is None or one["state"] != "ready" else await _health(name, one["address"])
        healthy = healthy and health == "healthy"
        used = memory_bytes(family(pid)) if pid else 0
        totals["all"] += used or 0
        totals["Hearth's five"] += (used or 0) if name in _HEARTH else 0
        rows.append((name, str(pid or "-"), one["address"], health, str(one["restarts"]), _megabytes(used)))
    runner = memory_bytes([record["pid"]])
    totals["all"] += runner or 0
    rows.append(("runner", str(record["pid"]), "-", record["state"], "-", _megabytes(runner)))
    rows.extend((name, "", "", "", "", _megabytes(total)) for name, total in totals.items())
    return rows, healthy


async def _health(name: str, address: str) -> str:
    """Asks the process itself; a component without a question of its own is healthy when it takes a connection."""
    from deploy.local.component import grpc_serving

    try:
        if name in _HEARTH and name != "gateway":
            return "healthy" if await grpc_serving(address)() else "not serving"
        if name in ("gateway", "local_model"):
            status, _ = await http_get(address, "/healthz" if name == "gateway" else "/health")
            return "healthy" if status == 200 else f"answers {status}"
        host, _, port = address.rpartition(":")
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host, int(port))
        writer.close()
    except OSError:
        return "no answer"
    return "healthy"


def _megabytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:.0f}"
