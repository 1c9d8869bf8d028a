"""Runs attacks and says how they ended; also as a program, so that the suite can run it as another user.

`python -m tests.integration.tool_svc.sandbox.battery FOLDER` prints a JSON object of attack names to
{"confined": outcome, "unconfined": outcome or null}.
"""

import asyncio
import contextlib
import ipaddress
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.integration.tool_svc.sandbox import targets
from tests.integration.tool_svc.sandbox.attacks import ATTACKS, Attack, Control
from tool_svc.adapters.egress.proxy import EgressProxy, EgressSettings
from tool_svc.adapters.sandbox.pool import PoolSettings, SandboxPool
from tool_svc.domain.egress import Address
from tool_svc.domain.execution import (
    ExecutionLimits,
    Failed,
    LimitExceeded,
    OutputChunk,
    SandboxCall,
    SandboxEvent,
    Succeeded,
)

_NAMES = {"public.test": "127.0.0.1", "private.test": "127.0.0.2"}
_EXEMPT = (ipaddress.ip_network("127.0.0.1/32"),)
LIMITS = ExecutionLimits(wall_time_s=2.0, cpu_s=2, memory_bytes=128 << 20)


async def _resolve(name: str) -> Sequence[Address]:
    return [ipaddress.ip_address(_NAMES[name])]


async def outcome(pool: SandboxPool, attack: Attack, arguments: dict[str, Any], *, unconfined: bool = False) -> str:
    """`Failed:<type>`, `LimitExceeded:<limit>` or `Succeeded:<JSON>`."""
    last: SandboxEvent | None = None
    outcomes = 0
    call = SandboxCall(attack.name, attack.source, "attack", {"t": arguments}, LIMITS)
    packages = Path(arguments["packages"]) / "env-own" if attack.packages else None
    call = replace(call, allowed_hosts=() if unconfined else attack.hosts, packages=packages)
    async with contextlib.aclosing(pool.execute(call)) as events:
        async for event in events:
            last = event
            outcomes += not isinstance(event, OutputChunk)
    assert outcomes == 1
    match last:
        case Failed(error_type=kind):
            return f"Failed:{kind}"
        case LimitExceeded(limit=limit):
            return f"LimitExceeded:{limit.value}"
        case Succeeded(result_json=text):
            return f"Succeeded:{text}"
        case _:
            return repr(last)


def has_control(attack: Attack) -> bool:
    """Whether the attack must work unconfined for who runs the suite now."""
    return attack.control is Control.ALWAYS or (attack.control is Control.SAME_USER and not targets.is_root())


async def run_all(folder: Path) -> dict[str, dict[str, str | None]]:
    """Every attack confined, and unconfined where it has a control."""
    results: dict[str, dict[str, str | None]] = {attack.name: {"unconfined": None} for attack in ATTACKS}
    with targets.prepared(folder) as arguments:
        for name, unconfined in (("confined", False), ("unconfined", True)):
            settings = PoolSettings(
                folder / "scratch", unconfined=unconfined, packages_root=Path(arguments["packages"])
            )
            pool = SandboxPool(settings, EgressProxy(EgressSettings(exempt=_EXEMPT), _resolve))
            await pool.start()
            try:
                for attack in ATTACKS:
                    if not unconfined or has_control(attack):
                        targets.refresh(Path(arguments["outside"]))
                        results[attack.name][name] = await outcome(pool, attack, arguments, unconfined=unconfined)
            finally:
                await pool.stop()
    return results


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run_all(Path(sys.argv[1])))))
