"""A worker to be killed, whose tool writes down what it did: `… DATABASE_URL NATS_URL MODEL_URL TOOL_ID FILE FAULTS`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import uvloop

from agent_svc.domain.tool import Tool
from chassis import failpoints
from tests.integration.agent_svc.outside import ToolsInProcess
from tests.integration.agent_svc.replica import Addresses, replica

ROOT = Path(__file__).parents[3]


def pay_with(tools: ToolsInProcess, paid: Path, tool_id: UUID) -> None:
    """The tool `pay`, which must be approved and adds a line to a file."""

    async def pay(arguments: dict[str, object]) -> str:
        with paid.open("a") as file:
            file.write(f"{arguments}\n")
        return "paid"

    schema = {"type": "object", "properties": {}}
    tools.tools[tool_id] = Tool("pay", "Pays.", schema, tool_id, 1, requires_approval=True)
    tools.behaviours["pay"] = pay


@asynccontextmanager
async def paying_worker(
    addresses: Addresses, tool_id: UUID, paid: Path, faults: Path
) -> AsyncGenerator[subprocess.Popen[bytes]]:
    """Started and ready; killed at the end if it still runs."""
    given = [addresses.database, addresses.nats, addresses.model, str(tool_id), str(paid), str(faults)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.agent_svc.paying_worker", *given],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'services'}:{ROOT / 'protos/gen/python'}",
        },
    )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 60)
        assert line == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


async def _main() -> None:
    database, nats, model, tool_id, paid, faults = sys.argv[1:]
    failpoints.arm(faults)
    tools = ToolsInProcess()
    pay_with(tools, Path(paid), UUID(tool_id))
    async with replica(Addresses(database, nats, model), tools=tools):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.sleep(3600)


if __name__ == "__main__":
    uvloop.run(_main())
