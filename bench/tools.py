"""What a call of a sandboxed tool costs through gRPC: latency warm, calls a second, CPU, and memory of a waiting worker.

The tool is trivial, so all that is measured is Hearth's own. Calls go to tool_svc itself, with a real database behind it; the
client's CPU is not counted.

    python -m bench.tools [--json FILE] [--calls 400]
"""

import argparse
import asyncio
import tempfile
import time
import uuid
from pathlib import Path

import grpc
import psutil
import uvloop
from google.protobuf import struct_pb2

from bench.figures import Figures, percentile
from bench.processes import cpu_ms
from deploy.local import Stack
from hearth.tool.v1 import tool_execution_service_pb2 as execution_pb
from hearth.tool.v1 import tool_service_pb2 as pb
from hearth.tool.v1.tool_execution_service_pb2_grpc import ToolExecutionServiceStub
from hearth.tool.v1.tool_service_pb2_grpc import ToolServiceStub
from tests.support.api import Api

TOOL = 'def double(number: int) -> int:\n    """Doubles a number.\n\n    Args:\n        number: Any.\n    """\n    return 2 * number\n'
TARGETS = {
    "tool_warm_p50_ms": "target 10; Letta 0.16.8: 293 in a bare venv, 1,450 to 5,250 by default",
    "tool_warm_p99_ms": "target 50",
    "tool_calls_per_s": "target 150 on two cores",
    "tool_call_cpu_ms": "tool_svc and all processes under it",
    "tool_worker_mib": "target 10: memory of its own (USS) of a waiting worker",
}
SIDE_BY_SIDE = 4


class Caller:
    """Calls one tool over one channel."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._tools = ToolServiceStub(channel)
        self._executions = ToolExecutionServiceStub(channel)
        self._metadata = metadata
        self._arguments = struct_pb2.Struct()
        self._arguments.update({"number": 21})
        self._tool_id = ""

    async def prepare(self) -> None:
        """Makes the tool."""
        answer = await self._tools.UpsertTool(
            pb.UpsertToolRequest(tool=pb.ToolSpec(source_code=TOOL)), metadata=self._metadata, timeout=10
        )
        self._tool_id = answer.tool.id

    async def call(self) -> float:
        """Milliseconds that one call took. Raises RuntimeError when it did not succeed."""
        request = execution_pb.ExecuteToolRequest(
            tool_id=self._tool_id, arguments=self._arguments, request_id=str(uuid.uuid4())
        )
        begun = time.perf_counter()
        stream = self._executions.ExecuteTool(request, metadata=self._metadata, timeout=30)
        responses = [response async for response in stream]
        if responses[-1].result.value.number_value != 42:
            raise RuntimeError(f"the tool answered {responses[-1]}")
        return (time.perf_counter() - begun) * 1000


async def measure(stack: Stack, figures: Figures, calls: int) -> None:
    """Calls one after the other, then side by side."""
    async with Api(stack.url, stack.api_key) as api, grpc.aio.insecure_channel(stack.address("tool_svc")) as channel:
        caller = Caller(channel, api.metadata)
        await caller.prepare()
        for _ in range(20):
            await caller.call()
        before = cpu_ms(processes(stack))
        latencies = [await caller.call() for _ in range(calls)]
        cpu = cpu_ms(processes(stack))["tool_svc"] - before["tool_svc"]
        figures.add("tool_warm_p50_ms", percentile(latencies, 0.5), "ms")
        figures.add("tool_warm_p99_ms", percentile(latencies, 0.99), "ms")
        figures.add("tool_call_cpu_ms", cpu / calls, "CPU-ms")

        async def series() -> list[float]:
            return [await caller.call() for _ in range(calls // SIDE_BY_SIDE)]

        begun = time.perf_counter()
        side_by_side = await asyncio.gather(*(series() for _ in range(SIDE_BY_SIDE)))
        seconds = time.perf_counter() - begun
        done = [latency for one in side_by_side for latency in one]
        figures.add("tool_calls_per_s", len(done) / seconds, "calls/s")
        figures.raw["warm_ms"] = [round(latency, 3) for latency in latencies]
        figures.raw["side_by_side_ms"] = [round(latency, 3) for latency in done]


def processes(stack: Stack) -> dict[str, list[int]]:
    """tool_svc with its fork server; ended workers are counted in the fork server's time."""
    service = stack.processes()["tool_svc"][0]
    tree = [service, *(child.pid for child in psutil.Process(service).children())]
    return {"tool_svc": tree}


def worker_mib(stack: Stack) -> float:
    """MiB of its own of the largest waiting worker."""
    service = psutil.Process(stack.processes()["tool_svc"][0])
    workers = [worker for server in service.children() for worker in server.children()]
    return max(float(worker.memory_full_info().uss) for worker in workers) / 2**20


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--calls", type=int, default=400, help="calls of a round")
    options = parser.parse_args()
    figures = Figures("Tools")
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        with Stack(home=home, env={"HEARTH_LOCAL_MODEL": "0"}) as stack:
            figures.add("tool_worker_mib", worker_mib(stack), "MiB")
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure(stack, figures, options.calls))
    figures.show(TARGETS)
    if options.json:
        figures.write(options.json)


if __name__ == "__main__":
    main()
