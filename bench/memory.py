"""What memory costs: inserting until searchable, searching, compiling a context, and the process's memory.

One organization of twenty is large: 10,000 passages, and with --large then 100,000. The others have a few hundred each.
Inserted is what can be found: the time ends when the index has everything. Beside it stand what the embedding model alone
does on this machine, and, with --mem0 PYTHON, the same inserts and queries through mem0 in an environment of its own (see
bench/memory_mem0.py).

    python -m bench.memory [--large] [--mem0 PYTHON] [--json FILE]
"""

import argparse
import asyncio
import itertools
import json
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import uvloop

from bench.figures import Figures, percentile
from bench.memory_corpus import facts, questions
from bench.memory_stack import MemoryStack, memory_stack
from bench.processes import cpu_ms, memory_mib
from hearth.memory.internal.v1 import context_service_pb2 as context_pb
from hearth.memory.v1 import archival_memory_service_pb2 as pb
from hearth.memory.v1 import block_service_pb2 as block_pb
from memory_svc.adapters.embedder import MiniLmModel
from tests.integration.memory_svc.service import Organization, new_id

TARGETS = {
    "embed_alone_per_s": "this machine's ceiling for insert_per_s",
    "insert_per_s": "bar 100; Letta 0.16.8: 8",
    "search_p50_ms_10k": "bar 25; Letta 0.16.8: 246",
    "search_p95_ms_10k": "bar 60",
    "context_hit_p50_ms": "bar 5",
    "context_recall_p50_ms": "bar 30",
    "mem0_insert_per_s": "the same texts, one call each: it has no batches",
    "mem0_search_p50_ms_10k": "the same queries",
    "mem0_search_p95_ms_10k": "the same queries",
}
SMALL, LARGE = 10_000, 100_000
NEIGHBOURS, NEIGHBOUR_PASSAGES = 19, 200
BATCH = 500
QUERIES = 200
MEM0 = Path(__file__).with_name("memory_mem0.py")


async def insert(organization: Organization, texts: Iterable[str]) -> float:
    """Inserts in batches and waits until all are in the index. Returns the seconds that it took."""
    begun = time.perf_counter()
    token = ""
    pending = iter(texts)
    while batch := list(itertools.islice(pending, BATCH)):
        request = pb.InsertPassagesRequest(
            agent_id=organization.agent, passages=[pb.PassageSpec(text=text) for text in batch]
        )
        token = (await organization.member.archival.InsertPassages(request)).consistency_token
    while True:
        asked = time.perf_counter()
        query = pb.SearchPassagesRequest(query="anything", agent_id=organization.agent, consistency_token=token)
        await organization.viewer.archival.SearchPassages(query)
        # A search waits for its token for seconds, and not at all once the index has everything.
        if time.perf_counter() - asked < 1.0:
            return time.perf_counter() - begun


async def search(organization: Organization, count: int, seed: int) -> list[float]:
    """Searches, one after the other; milliseconds of each."""
    took: list[float] = []
    for text in questions(count, seed):
        begun = time.perf_counter()
        answer = await organization.viewer.archival.SearchPassages(
            pb.SearchPassagesRequest(query=text, agent_id=organization.agent)
        )
        took.append((time.perf_counter() - begun) * 1000)
        if answer.degraded or len(answer.hits) != 10:
            raise RuntimeError(f"a search gave {len(answer.hits)} hits, degraded: {answer.degraded}")
    return took


async def contexts(organization: Organization, figures: Figures) -> None:
    """CompileContext: with blocks that are known, and with recall for a new input."""
    for label in ("human", "persona"):
        request = block_pb.CreateBlockRequest(
            request_id="", label=label, value="Likes rain. " * 40, agent_ids=[organization.agent]
        )
        await organization.member.blocks.CreateBlock(request)
    for name, budget in (("context_hit_p50_ms", 0), ("context_recall_p50_ms", 1_000)):
        took: list[float] = []
        for text in questions(QUERIES, seed=23):
            begun = time.perf_counter()
            await organization.service.context.CompileContext(
                context_pb.CompileContextRequest(
                    agent_id=organization.agent,
                    input=text,
                    recall_budget_tokens=budget,
                    conversation_id=new_id("conv"),
                )
            )
            took.append((time.perf_counter() - begun) * 1000)
        figures.add(name, percentile(took, 0.5), "ms")
        figures.raw[name.replace("p50", "p95")] = percentile(took, 0.95)


def alone(figures: Figures) -> None:
    """The embedding model in this process, nothing else running: short batches of like length."""
    texts = sorted(facts(1_000), key=len)
    model = MiniLmModel()
    model.encode(texts[:8])
    begun = time.perf_counter()
    for start in range(0, len(texts), 8):
        model.encode(texts[start : start + 8])
    figures.add("embed_alone_per_s", len(texts) / (time.perf_counter() - begun), "texts/s")


async def measure(stack: MemoryStack, figures: Figures, *, large: bool) -> None:
    """Fills memory step by step and measures at each."""
    processes = {"memory_svc": [stack.process.pid]}
    figures.add("idle_mib", memory_mib(processes)["memory_svc"], "MiB PSS")
    async with stack.channel() as channel:
        for number in range(NEIGHBOURS):
            await insert(stack.organization(channel), facts(NEIGHBOUR_PASSAGES, seed=100 + number))
        organization = stack.organization(channel)
        texts = facts(LARGE)
        spent = cpu_ms(processes)["memory_svc"]
        seconds = await insert(organization, itertools.islice(texts, SMALL))
        figures.add("insert_per_s", SMALL / seconds, "passages/s")
        figures.add("insert_cpu_ms", (cpu_ms(processes)["memory_svc"] - spent) / SMALL, "CPU-ms a passage")
        await at_size(organization, figures, processes, "10k")
        await contexts(organization, figures)
        if large:
            seconds = await insert(organization, texts)
            figures.add("insert_per_s_to_100k", (LARGE - SMALL) / seconds, "passages/s")
            await at_size(organization, figures, processes, "100k")


async def at_size(organization: Organization, figures: Figures, processes: dict[str, list[int]], size: str) -> None:
    """Searches and memory at one size."""
    await search(organization, 20, seed=5)
    spent = cpu_ms(processes)["memory_svc"]
    took = await search(organization, QUERIES, seed=11)
    # Says what a search costs on a machine that is busy with other things, too.
    figures.add(f"search_cpu_ms_{size}", (cpu_ms(processes)["memory_svc"] - spent) / QUERIES, "CPU-ms a search")
    figures.add(f"search_p50_ms_{size}", percentile(took, 0.5), "ms")
    figures.add(f"search_p95_ms_{size}", percentile(took, 0.95), "ms")
    figures.raw[f"search_ms_{size}"] = [round(value, 2) for value in took]
    figures.add(f"memory_mib_{size}", memory_mib(processes)["memory_svc"], "MiB PSS")


def beside_mem0(python: Path, figures: Figures) -> None:
    """The same texts and queries through mem0."""
    ended = subprocess.run(
        [str(python), str(MEM0), "--passages", str(SMALL), "--queries", str(QUERIES)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        print(f"mem0 could not be measured:\n{ended.stderr[-2000:]}")
        return
    found = json.loads(ended.stdout.strip().splitlines()[-1])
    figures.raw["mem0"] = found
    figures.add("mem0_insert_per_s", found["insert_per_s"], "passages/s")
    figures.add("mem0_search_p50_ms_10k", percentile(found["search_ms"], 0.5), "ms")
    figures.add("mem0_search_p95_ms_10k", percentile(found["search_ms"], 0.95), "ms")
    figures.add("mem0_memory_mib_10k", found["memory_mib"], "MiB RSS")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="go on to 100,000 passages: half an hour")
    parser.add_argument("--mem0", type=Path, metavar="PYTHON", help="interpreter of an environment with mem0")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = Figures("Memory")
    alone(figures)
    with memory_stack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(stack, figures, large=options.large))
    if options.mem0:
        beside_mem0(options.mem0, figures)
    figures.show(TARGETS)
    if options.json:
        figures.write(options.json)


if __name__ == "__main__":
    main()
