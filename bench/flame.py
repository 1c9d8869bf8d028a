"""Where agent_svc spends its CPU in a turn: py-spy looks on while conversations talk to a model that answers at once.

    python -m bench.flame [--seconds 20] [--conversations 8] [--svg FILE]

Only what holds the interpreter counts: a thread that waits in native code does not. Prints the shares by the file they are spent in (a frame's own time) and by function (with all that it calls).
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

from bench.model_stream import model_server
from deploy.local import Stack
from tests.fakes.model_control import ModelServerControl
from tests.support.api import Api

_RATE = 250
_ROWS = 25


async def talk(stack: Stack, conversations: int, seconds: float) -> int:
    """Turns of many conversations at once; returns how many there were."""
    until = time.monotonic() + seconds
    turns = 0

    async def one(api: Api) -> None:
        nonlocal turns
        agent = await api.create_agent(passive_recall=False)
        while time.monotonic() < until:
            await api.ask(agent.id, f"Hello {uuid.uuid4().hex}")
            turns += 1

    async with Api(stack.url, stack.api_key) as api:
        await asyncio.gather(*(one(api) for _ in range(conversations)))
    return turns


def record(pid: int, seconds: float, output: Path, kind: str) -> subprocess.Popen[bytes]:
    """py-spy beside this program, on one process."""
    program = Path(sys.executable).parent / "py-spy"
    words = [str(program), "record", "--gil", "--pid", str(pid), "--rate", str(_RATE), "--duration", str(int(seconds))]
    return subprocess.Popen(
        [*words, "--format", kind, "--output", str(output)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def table(raw: str) -> str:
    """The stacks of py-spy's raw format as two columns of shares."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    total = 0
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        total += int(count)
        own[_place(frames[-1])] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    lines = [f"{total} samples", "", "| own time | file |", "| ---: | --- |"]
    lines += [f"| {count / total:.1%} | {place} |" for place, count in own.most_common(_ROWS)]
    lines += ["", "| with what it calls | function |", "| ---: | --- |"]
    ours = [(frame, count) for frame, count in within.most_common() if _ours(frame)]
    lines += [f"| {count / total:.1%} | {frame} |" for frame, count in ours[:_ROWS]]
    return "\n".join(lines)


def _place(frame: str) -> str:
    """`name (path/file.py:12)` → the file, as a package names it."""
    path = frame.rpartition("(")[2].rstrip(")").rpartition(":")[0]
    return path.rpartition("site-packages/")[2].rpartition("lib/python3")[2] or path


def _ours(frame: str) -> bool:
    return any(f"({package}/" in frame for package in ("agent_svc", "chassis", "psycopg", "nats", "grpc", "aiohttp"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--svg", type=Path, help="write a flame graph to this file instead of tables")
    arguments = parser.parse_args()
    with model_server() as root, tempfile.TemporaryDirectory() as folder:
        control = ModelServerControl(root)
        control.default(mode="instant", tokens=20, record=False)
        output = arguments.svg or Path(folder) / "raw"
        kind = "flamegraph" if arguments.svg else "raw"
        with Stack(env={"HEARTH_OPENAI_BASE_URL": control.url, "HEARTH_LOCAL_MODEL": "0"}) as stack:
            asyncio.run(talk(stack, arguments.conversations, 3))
            spy = record(stack.pid("agent_svc"), arguments.seconds, output, kind)
            turns = asyncio.run(talk(stack, arguments.conversations, arguments.seconds + 1))
            spy.wait(60)
        print(f"{turns} turns of {arguments.conversations} conversations in {arguments.seconds + 1:.0f} s")
        if not arguments.svg:
            print(table(output.read_text()))


if __name__ == "__main__":
    main()
