"""What one agent_svc holds: many slow answers at once, and its memory over many turns.

    python -m bench.streams [--json FILE] [--streams 1000] [--seconds 30] [--turns 10000]

The model server speaks one word every half second, so that what is measured is holding, not answering. Everything else is as in bench.turn.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from bench.figures import Figures, percentile
from bench.processes import OWN, STORES, cpu_ms, memory_mib
from bench.turn import model_server
from deploy.local import Stack
from tests.fakes.model_control import ModelServerControl
from tests.support.api import Api

TARGETS = {
    "slow_streams": "1,000 held by one agent_svc",
    "slow_streams_lost": "0",
    "slow_streams_late_p99_ms": "how much later than the model's a piece comes",
    "slow_streams_cpu_share": "of one core, Hearth's five, PostgreSQL and NATS",
    "memory_growth_mib": "0: flat",
}
_PACE_S = 0.5
# Starts are spread at about the rate at which turns can begin: a burst of all at once is refused in part, as it should be.
_STARTS_PER_S = 100
# A turn holds one of the worker's slots while its model speaks; one organization gets three quarters of them.
_SLOTS_PER_STREAM = 1.5


@dataclass
class Held:
    """What the watchers of slow answers saw."""

    succeeded: int = 0
    lost: list[str] = field(default_factory=list[str])
    gaps_ms: list[float] = field(default_factory=list[float])


async def slow_streams(stack: Stack, control: ModelServerControl, figures: Figures, count: int, seconds: float) -> None:
    """`count` runs whose answers take `seconds`, each watched by a stream of its own."""
    words = int(seconds / _PACE_S)
    held = Held()
    async with Api(stack.url, stack.api_key) as api:
        agents = [(await api.create_agent(passive_recall=False)).id for _ in range(count)]
        control.default(mode="instant", tokens=words, token_delay_ms=_PACE_S * 1000, record=False)
        memory_before, cpu_before, begun = memory_mib(stack.processes()), cpu_ms(stack.processes()), time.perf_counter()
        watchers: list[asyncio.Task[None]] = []
        for agent in agents:
            watchers.append(asyncio.create_task(_watch(api, agent, seconds, held)))
            await asyncio.sleep(1 / _STARTS_PER_S)
        most, memory_most = 0, memory_before
        while not all(watcher.done() for watcher in watchers):
            await asyncio.sleep(1.0)
            in_flight = control.state()["in_flight"]
            if in_flight > most:
                most, memory_most = in_flight, memory_mib(stack.processes())
        await asyncio.gather(*watchers)
        spent_s = time.perf_counter() - begun
        cpu_after = cpu_ms(stack.processes())
    spent = sum(cpu_after[name] - cpu_before.get(name, 0.0) for name in (*OWN, *STORES))
    figures.add("slow_streams", most, "streams")
    figures.add("slow_streams_lost", count - held.succeeded, "streams")
    figures.add("slow_streams_late_p99_ms", percentile(held.gaps_ms, 0.99) - _PACE_S * 1000, "ms")
    figures.add("slow_streams_cpu_share", spent / 1000 / spent_s, "cores")
    figures.add(
        "slow_stream_kib", (memory_most["agent_svc"] - memory_before["agent_svc"]) * 1024 / max(most, 1), "KiB a stream"
    )
    figures.raw["slow_streams"] = {
        "asked": count,
        "seconds": round(spent_s, 1),
        "lost": held.lost[:20],
        "gap_ms": {f"p{share}": round(percentile(held.gaps_ms, share / 100), 1) for share in (50, 95, 99)},
        "cpu_ms": {name: round(cpu_after[name] - cpu_before.get(name, 0.0)) for name in cpu_after},
        "memory_mib": {"before": memory_before, "most": memory_most},
    }


async def _watch(api: Api, agent_id: str, seconds: float, held: Held) -> None:
    last, before = "nothing", 0.0
    try:
        async for frame in api.send(agent_id, "Tell me slowly.", timeout=seconds * 4 + 60):
            if frame.WhichOneof("kind") == "event":
                last = frame.event.WhichOneof("payload") or ""
            elif frame.WhichOneof("kind") == "delta":
                now = time.perf_counter()
                if before:
                    held.gaps_ms.append((now - before) * 1000)
                before = now
    except Exception as error:
        held.lost.append(repr(error)[:200])
        return
    if last == "run_succeeded":
        held.succeeded += 1
    else:
        held.lost.append(last)


async def memory_over_turns(stack: Stack, control: ModelServerControl, figures: Figures, turns: int) -> None:
    """PSS of Hearth's five after each tenth of the turns, by 64 agents at once that are replaced with each tenth."""
    control.default(mode="instant", tokens=20, record=False)
    told: list[dict[str, float]] = []
    async with Api(stack.url, stack.api_key) as api:
        for _ in range(10):
            agents = [(await api.create_agent(passive_recall=False)).id for _ in range(64)]

            async def talk(agent: str) -> None:
                for _ in range(max(1, turns // 640)):
                    await api.ask(agent, "How are you today?", timeout=60)

            await asyncio.gather(*(talk(agent) for agent in agents))
            await asyncio.sleep(1.0)
            told.append({name: round(mib, 1) for name, mib in memory_mib(stack.processes()).items()})
            print({name: told[-1][name] for name in OWN}, flush=True)
    half = len(told) // 2
    growth = sum(told[-1][name] - told[half - 1][name] for name in OWN)
    figures.add("memory_growth_mib", growth, "MiB, second half")
    figures.raw["memory_over_turns"] = told


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="that one answer takes")
    parser.add_argument("--turns", type=int, default=10_000, help="under 640: leave memory out")
    options = parser.parse_args()
    figures = Figures("Streams")
    with model_server() as root, tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        home = Path(folder)
        home.chmod(0o711)
        control = ModelServerControl(root)
        free = {"HEARTH_LIMIT_CONCURRENT_RUNS": "", "HEARTH_LIMIT_REQUESTS_PER_SECOND": ""}
        free |= {"HEARTH_WORKER_CONCURRENCY": str(max(64, int(options.streams * _SLOTS_PER_STREAM)))}
        free |= {"HEARTH_DOOR_ORGANIZATION_RATE": "100000", "HEARTH_DOOR_USER_RATE": "100000"}
        free |= {"HEARTH_OPENAI_BASE_URL": control.url, "HEARTH_LOCAL_MODEL": "0"}
        with Stack(home=home, env=free) as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if options.streams:
                runner.run(slow_streams(stack, control, figures, options.streams, options.seconds))
            if options.turns >= 640:
                runner.run(memory_over_turns(stack, control, figures, options.turns))
    figures.show(TARGETS)
    if options.json:
        figures.write(options.json)


if __name__ == "__main__":
    main()
