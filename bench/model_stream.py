"""CPU that the model adapters spend on one streamed answer, measured in this process with the model server in another.

The server writes tokens one by one. "together" lets the network merge them, as a fast server does; "apart" leaves a pause between
tokens, so that each wakes this process alone, as from a real model. What aiohttp alone costs for the same bytes stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from agent_svc.adapters.models import AnthropicProvider, OpenAIChatProvider
from agent_svc.domain.model import ModelRequest, SystemMessage, UserMessage
from agent_svc.interfaces.model_provider import ModelProvider
from bench.figures import Figures

_REQUEST = ModelRequest("scripted", [SystemMessage("You are terse."), UserMessage("Count.")], max_output_tokens=500)


@dataclass(frozen=True)
class Row:
    """One measured case: medians over the rounds, per stream."""

    name: str
    cpu_ms: float
    wall_ms: float
    events: float
    rounds: list[float]


@contextlib.contextmanager
def model_server() -> Generator[str]:
    """A scripted model server in a process of its own; gives its root URL."""
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        command = [sys.executable, "-m", "tests.fakes.model_server", "--port-file", str(port_file)]
        root = Path(__file__).resolve().parent.parent
        process = subprocess.Popen(command, cwd=root)
        try:
            deadline = time.monotonic() + 15
            while not port_file.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the scripted model server did not start")
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port_file.read_text()}"
        finally:
            process.terminate()
            process.wait(10)


async def set_default(root: str, tokens: int, delay_ms: float) -> None:
    """Tell the server what to answer."""
    values = {"mode": "instant", "tokens": tokens, "token_delay_ms": delay_ms, "record": False}
    async with aiohttp.ClientSession() as session, session.post(f"{root}/control/default", json=values) as response:
        response.raise_for_status()


async def measure(name: str, stream: Callable[[], Awaitable[int]], rounds: int, streams: int) -> Row:
    """Medians over `rounds`, each of `streams` streams one after the other, after a warm-up round."""
    cpu: list[float] = []
    wall: list[float] = []
    events = 0
    for number in range(rounds + 1):
        cpu_start, wall_start, events = time.process_time(), time.perf_counter(), 0
        for _ in range(streams):
            events += await stream()
        if number:
            cpu.append((time.process_time() - cpu_start) * 1000 / streams)
            wall.append((time.perf_counter() - wall_start) * 1000 / streams)
    return Row(name, statistics.median(cpu), statistics.median(wall), events / streams, cpu)


def through(provider: ModelProvider) -> Callable[[], Awaitable[int]]:
    """One stream through an adapter; gives the number of events."""

    async def stream() -> int:
        events = 0
        async with contextlib.aclosing(provider.stream(_REQUEST)) as answer:
            async for _ in answer:
                events += 1
        return events

    return stream


def bare(session: aiohttp.ClientSession, url: str) -> Callable[[], Awaitable[int]]:
    """The same bytes read with aiohttp and thrown away; gives the number of chunks."""
    body = {"model": "scripted", "stream": True, "messages": [{"role": "user", "content": "Count."}]}

    async def stream() -> int:
        chunks = 0
        async with session.post(url, json=body) as response:
            while await response.content.readany():
                chunks += 1
        return chunks

    return stream


async def run(tokens: int, rounds: int, streams: int) -> list[Row]:
    """All cases."""
    rows: list[Row] = []
    with model_server() as root:
        openai = OpenAIChatProvider(f"{root}/v1")
        anthropic = AnthropicProvider("no-key", f"{root}/v1")
        async with aiohttp.ClientSession() as session:
            alone = bare(session, f"{root}/v1/chat/completions")
            cases = {"openai": through(openai), "anthropic": through(anthropic), "aiohttp alone": alone}
            for pace, delay_ms in (("together", 0.0), ("apart", 2.0)):
                await set_default(root, tokens, delay_ms)
                count = streams if not delay_ms else max(5, streams // 10)
                rows += [await measure(f"{name}, {pace}", case, rounds, count) for name, case in cases.items()]
        await openai.aclose()
        await anthropic.aclose()
    return rows


def main() -> None:
    """Measure, print the table, and with --json write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--streams", type=int, default=100, help="streams a round")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = uvloop.run(run(arguments.tokens, arguments.rounds, arguments.streams))
    figures = Figures(f"CPU of one stream of {arguments.tokens} tokens")
    for row in rows:
        key = row.name.replace(", ", "_").replace(" ", "_")
        figures.add(f"{key}_cpu_ms", row.cpu_ms, "CPU-ms")
        figures.raw[key] = {"cpu_ms": row.rounds, "wall_ms": row.wall_ms, "events": row.events}
    bar = "bar 1.0; measured once: httpx 2.7, OpenAI SDK 11.6, pydantic-ai 19.9"
    figures.show({"openai_together_cpu_ms": bar, "anthropic_together_cpu_ms": "bar 1.0"})
    if arguments.json:
        figures.write(arguments.json)


if __name__ == "__main__":
    main()
