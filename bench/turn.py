"""What a turn costs: CPU by component, latency, throughput, streaming, tools, memory idle, warm start.

Everything is real but the model, which answers at once (or as fast as it can be read) from a process of its own. The client
runs in this process; neither its CPU nor the model server's is counted. "Counted" are Hearth's five processes, PostgreSQL
and NATS; Envoy stands beside them.

    python -m bench.turn [--json FILE] [--turns 150] [--long 1000]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from bench.figures import Figures, percentile
from bench.model_stream import model_server
from bench.processes import OWN, STORES, cpu_ms, memory_mib
from deploy.local import Stack
from hearth.tool.v1 import tool_service_pb2
from tests.fakes.model_control import ModelServerControl
from tests.support.api import Api

TARGETS = {
    "turn_cpu_ms": "target 25 now, 15 in the end; Letta 0.16.8: 215",
    "turn_cpu_ms_recall": "target 40 in the end",
    "turn_added_p50_ms": "target 40 now, 25 in the end; Letta 0.16.8: 223 in all",
    "turns_per_s_64": "target 80 in the end; Letta 0.16.8: 5 to 8",
    "tool_turn_cpu_ms": "target 30 in the end",
    "stream_tokens_per_s": "Letta 0.16.8: 205 to 260",
    "history_1000_ratio": "target 1.5",
    "idle_mb_own": "target 750",
    "idle_mb_all": "target 1,200 with the local model, which is not started here",
    "warm_start_s": "target 15",
}
TOOL = 'def double(number: int) -> int:\n    """Doubles a number.\n\n    Args:\n        number: Any.\n    """\n    return 2 * number\n'
STREAM_TOKENS = 1000


@dataclass
class Measured:
    """One round of turns."""

    turns: int
    seconds: float
    latencies_ms: list[float]
    first_token_ms: list[float]
    cpu_ms_per_turn: dict[str, float]

    @property
    def counted_ms(self) -> float:
        """CPU milliseconds a turn of what is counted."""
        return sum(self.cpu_ms_per_turn.get(name, 0.0) for name in (*OWN, *STORES))

    def raw(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "turns": self.turns,
            "seconds": round(self.seconds, 3),
            "cpu_ms_per_turn": {name: round(value, 2) for name, value in self.cpu_ms_per_turn.items()},
            "latency_p50_ms": round(percentile(self.latencies_ms, 0.5), 2),
            "latency_p95_ms": round(percentile(self.latencies_ms, 0.95), 2),
            "first_token_p50_ms": round(percentile(self.first_token_ms, 0.5), 2) if self.first_token_ms else None,
        }


async def one_turn(api: Api, agent_id: str, text: str, measured: Measured) -> None:
    """Sends a message and waits for the end of its run. Raises RuntimeError when the run does not succeed."""
    begun = time.perf_counter()
    first: float | None = None
    last = ""
    async for frame in api.send(agent_id, text, timeout=120):
        kind = frame.WhichOneof("kind")
        if kind == "delta" and first is None:
            first = time.perf_counter()
        elif kind == "event":
            last = frame.event.WhichOneof("payload") or ""
    if last != "run_succeeded":
        raise RuntimeError(f"a turn ended with {last or 'nothing'}")
    measured.latencies_ms.append((time.perf_counter() - begun) * 1000)
    if first is not None:
        measured.first_token_ms.append((first - begun) * 1000)


async def measure(
    stack: Stack, turns: int, turn: Callable[[int, Measured], Awaitable[None]], conversations: int
) -> Measured:
    """Runs `turns` turns over several conversations at once, each going on when its last turn has ended."""
    measured = Measured(turns, 0.0, [], [], {})
    before = cpu_ms(stack.processes())
    begun = time.perf_counter()

    async def conversation(index: int) -> None:
        for _ in range(turns // conversations):
            await turn(index, measured)

    await asyncio.gather(*(conversation(index) for index in range(conversations)))
    measured.seconds = time.perf_counter() - begun
    # What is done after a turn (indexing, acknowledgements) belongs to it.
    await asyncio.sleep(1.0)
    after = cpu_ms(stack.processes())
    measured.turns = turns // conversations * conversations
    measured.cpu_ms_per_turn = {name: (after[name] - before.get(name, 0.0)) / measured.turns for name in after}
    return measured


async def model_alone(url: str, rounds: int = 50) -> tuple[float, float]:
    """Milliseconds at the median until the model's first piece and until its end, asked directly."""
    firsts: list[float] = []
    wholes: list[float] = []
    body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Hello."}]}
    async with aiohttp.ClientSession() as http:
        for _ in range(rounds):
            begun = time.perf_counter()
            async with http.post(f"{url}/chat/completions", json=body) as answer:
                await answer.content.readany()
                firsts.append((time.perf_counter() - begun) * 1000)
                await answer.read()
                wholes.append((time.perf_counter() - begun) * 1000)
    return statistics.median(firsts), statistics.median(wholes)


async def turns(stack: Stack, control: ModelServerControl, figures: Figures, count: int, long: int) -> None:
    """All rounds that need a running stack."""
    async with Api(stack.url, stack.api_key) as api:
        control.default(mode="instant", tokens=20, record=False)
        first_ms, whole_ms = await model_alone(control.url)
        figures.raw["model_alone_ms"] = {"first": first_ms, "whole": whole_ms}
        await plain(stack, api, figures, count, first_ms, whole_ms)
        await recalling(stack, api, figures, count)
        await with_tool(stack, control, api, figures, count)
        control.default(mode="instant", tokens=STREAM_TOKENS, record=False)
        await streaming(stack, api, figures)
        control.default(mode="instant", tokens=20, record=False)
        await long_conversation(stack, api, figures, long)


async def plain(stack: Stack, api: Api, figures: Figures, count: int, first_ms: float, whole_ms: float) -> None:
    """Turns without recall at 1, 8 and 64 conversations."""
    agents = [(await api.create_agent(passive_recall=False)).id for _ in range(64)]

    async def turn(index: int, measured: Measured) -> None:
        await one_turn(api, agents[index], "How are you today?", measured)

    await measure(stack, 32, turn, 4)  # warm up
    for conversations, factor in ((1, 1), (8, 2), (64, 4)):
        measured = await measure(stack, count * factor, turn, conversations)
        figures.raw[f"plain_{conversations}"] = measured.raw()
        show(f"{conversations} conversations", measured)
        if conversations == 1:
            figures.add("turn_cpu_ms", measured.counted_ms, "CPU-ms")
            figures.add("turn_added_p50_ms", percentile(measured.latencies_ms, 0.5) - whole_ms, "ms")
            figures.add("ttft_added_p50_ms", percentile(measured.first_token_ms, 0.5) - first_ms, "ms")
        if conversations == 64:
            figures.add("turns_per_s_64", measured.turns / measured.seconds, "turns/s")


async def recalling(stack: Stack, api: Api, figures: Figures, count: int) -> None:
    """Turns with passive recall; every text is new, as people's are."""
    agent = await api.create_agent(passive_recall=True)

    async def turn(index: int, measured: Measured) -> None:
        await one_turn(api, agent.id, f"What do you know about {uuid.uuid4().hex[:8]} and its neighbours?", measured)

    measured = await measure(stack, count, turn, 1)
    figures.raw["recall_1"] = measured.raw()
    show("passive recall", measured)
    figures.add("turn_cpu_ms_recall", measured.counted_ms, "CPU-ms")


async def with_tool(stack: Stack, control: ModelServerControl, api: Api, figures: Figures, count: int) -> None:
    """Turns with one call of a sandboxed tool: two model calls, one tool call.

    As in `plain` the user says the same each time, so that what a new text costs (its embedding) does not hide what the
    call costs; beside it the same with texts that are new, as people's are.
    """
    request = tool_service_pb2.UpsertToolRequest(tool=tool_service_pb2.ToolSpec(source_code=TOOL))
    await api.tools.UpsertTool(request, metadata=api.metadata, timeout=10)
    agent = await api.create_agent(tools=("double",), passive_recall=False)
    call = {"tool_calls": [{"name": "double", "arguments": {"number": 21}}]}

    async def ask(text: str, measured: Measured) -> None:
        control.script(text, call, {"text": "It is 42."}, scope="last_user")
        await one_turn(api, agent.id, text, measured)

    async def same(index: int, measured: Measured) -> None:
        await ask("What is twice 21?", measured)

    async def new(index: int, measured: Measured) -> None:
        await ask(f"What is twice 21, and who is {uuid.uuid4().hex[:8]}?", measured)

    await measure(stack, 10, same, 1)  # warm up
    for name, turn in (("tool_1", same), ("tool_new_text_1", new)):
        measured = await measure(stack, max(count // 2, 10), turn, 1)
        figures.raw[name] = measured.raw()
        show("one tool call" if turn is same else "one tool call, texts that are new", measured)
        if turn is same:
            figures.add("tool_turn_cpu_ms", measured.counted_ms, "CPU-ms")


async def streaming(stack: Stack, api: Api, figures: Figures) -> None:
    """Long answers, eight at a time."""
    agents = [(await api.create_agent(passive_recall=False)).id for _ in range(8)]

    async def turn(index: int, measured: Measured) -> None:
        await one_turn(api, agents[index], "Go on.", measured)

    measured = await measure(stack, 24, turn, 8)
    figures.raw["streaming_8"] = measured.raw()
    show(f"answers of {STREAM_TOKENS} tokens", measured)
    figures.add("stream_tokens_per_s", measured.turns * STREAM_TOKENS / measured.seconds, "tokens/s")


async def long_conversation(stack: Stack, api: Api, figures: Figures, length: int) -> None:
    """One conversation of many turns: what its last fifty cost, against the fifty after its tenth."""
    if length < 200:
        return
    agent = await api.create_agent(passive_recall=False)

    async def turn(index: int, measured: Measured) -> None:
        await one_turn(api, agent.id, "And then?", measured)

    await measure(stack, 10, turn, 1)
    early = await measure(stack, 50, turn, 1)
    await measure(stack, length - 110, turn, 1)
    late = await measure(stack, 50, turn, 1)
    figures.raw["long"] = {"length": length, "early": early.raw(), "late": late.raw()}
    figures.add("history_1000_ratio", late.counted_ms / early.counted_ms, "ratio")


def show(name: str, measured: Measured) -> None:
    """Prints a round as it ends."""
    parts = ", ".join(
        f"{part} {value:.1f}" for part, value in sorted(measured.cpu_ms_per_turn.items()) if value >= 0.05
    )
    print(
        f"{name}: {measured.turns / measured.seconds:.1f} turns/s, p50 {percentile(measured.latencies_ms, 0.5):.1f} ms, "
        f"p95 {percentile(measured.latencies_ms, 0.95):.1f} ms, {measured.counted_ms:.1f} CPU-ms a turn ({parts})",
        flush=True,
    )


def idle(stack: Stack, figures: Figures) -> None:
    """Memory after a while of doing nothing."""
    time.sleep(5)
    memory = memory_mib(stack.processes())
    figures.raw["idle_mib"] = {name: round(value, 1) for name, value in memory.items()}
    figures.add("idle_mb_own", sum(memory.get(name, 0.0) for name in OWN), "MiB PSS")
    figures.add("idle_mb_all", sum(memory.values()), "MiB PSS")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--turns", type=int, default=150, help="turns of a round at one conversation")
    parser.add_argument(
        "--long", type=int, default=1000, help="turns of the long conversation; under 200: leave it out"
    )
    options = parser.parse_args()
    figures = Figures("Turns")
    with model_server() as root, tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        control = ModelServerControl(root)
        stack = Stack(home=home, env={"HEARTH_OPENAI_BASE_URL": control.url, "HEARTH_LOCAL_MODEL": "0"})
        stack.start()
        stack.stop()
        begun = time.perf_counter()
        stack.start()
        figures.add("warm_start_s", time.perf_counter() - begun, "s")
        try:
            idle(stack, figures)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(turns(stack, control, figures, options.turns, options.long))
        finally:
            stack.stop()
    figures.show(TARGETS)
    if options.json:
        figures.write(options.json)


if __name__ == "__main__":
    main()
