"""The supervisor with the smallest processes there are: order, restarts, limits."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.local.component import Component
from deploy.local.processes import started
from deploy.local.supervisor import StartError, Supervisor

# Says when it starts and when it is asked to stop; ready once its file is there.
WAITS = """
import pathlib, signal, sys, time
name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
def note(word):
    with open(folder / "notes", "a") as file: file.write(f"{word} {name}\\n")
signal.signal(signal.SIGTERM, lambda *_: (note("stop"), sys.exit(0)))
note("start")
(folder / name).touch()
while True: time.sleep(1)
"""
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
FAILS = "import sys; print('the disk is full'); sys.exit(3)"


def component(folder: Path, name: str, code: str = WAITS, **more: Any) -> Component:
    async def ready() -> bool:
        return await asyncio.to_thread((folder / name).exists)

    command = (sys.executable, "-I", "-S", "-c", code, name, str(folder))
    return replace(Component(name=name, command=command, address="-", ready=ready, start_timeout_s=10.0), **more)


def supervisor(folder: Path, *components: Component) -> tuple[Supervisor, list[str]]:
    said: list[str] = []
    return Supervisor(components, folder, lambda: None, said.append), said


def notes(folder: Path) -> list[str]:
    return (folder / "notes").read_text().splitlines()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("this did not come to pass")


async def test_needs_start_first_and_higher_tiers_stop_first(tmp_path: Path) -> None:
    stack, _ = supervisor(
        tmp_path,
        component(tmp_path, "door", needs=("service",), tier=2),
        component(tmp_path, "service", needs=("database",), tier=1),
        component(tmp_path, "database"),
    )
    await stack.start()
    pids = [one.record()["pid"] for one in stack.supervised.values()]
    await stack.stop()
    assert notes(tmp_path) == [
        *("start database", "start service", "start door"),
        *("stop door", "stop service", "stop database"),
    ]
    assert [started(pid) for pid in pids] == [None, None, None]


async def test_a_failing_start_names_the_component_and_ends_the_others(tmp_path: Path) -> None:
    stack, _ = supervisor(tmp_path, component(tmp_path, "good"), component(tmp_path, "bad", FAILS))
    with pytest.raises(StartError) as failure:
        await stack.start()
    pid = stack.supervised["good"].record()["pid"]
    await stack.stop()
    assert str(failure.value).startswith("bad ended while it started (exit code 3)")
    assert str(failure.value).endswith("the disk is full")
    assert pid is None or started(pid) is None
    assert {one.state for one in stack.supervised.values()} == {"stopped"}


async def test_what_never_gets_ready_is_given_up_and_killed(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    stack, _ = supervisor(tmp_path, component(tmp_path, "slow", ready=never, start_timeout_s=0.5))
    with pytest.raises(StartError, match=r"slow was not ready within 0 s"):
        await stack.start()
    await stack.stop()
    assert stack.supervised["slow"].record()["pid"] is None


async def test_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    async def ready() -> bool:
        return "deaf" in await asyncio.to_thread((tmp_path / "deaf.log").read_text)

    stack, said = supervisor(tmp_path, component(tmp_path, "deaf", STUBBORN, ready=ready, stop_timeout_s=0.3))
    await stack.start()
    pid = stack.supervised["deaf"].record()["pid"]
    await stack.stop()
    assert started(pid) is None
    assert "deaf did not stop in time and is killed" in said


async def test_pauses_grow_while_a_process_keeps_dying(tmp_path: Path) -> None:
    stack, said = supervisor(tmp_path, component(tmp_path, "frail"))
    await stack.start()
    frail = stack.supervised["frail"]
    for restart in range(3):
        pid = frail.record()["pid"]
        signal_sent = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        await until(lambda before=restart: frail.restarts == before + 1 and frail.state == "ready")
        assert time.monotonic() - signal_sent >= (0.1, 0.5, 1.0)[restart]
    await stack.stop()
    assert [line.rpartition("in ")[2] for line in said if "starting it again" in line] == ["0.1 s", "0.5 s", "1 s"]


async def test_what_must_be_done_before_and_after_a_start_is_done_each_time(tmp_path: Path) -> None:
    done: list[str] = []

    def step(word: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            done.append(word)

        return run

    stack, _ = supervisor(tmp_path, component(tmp_path, "one", prepare=step("prepare"), finish=step("finish")))
    await stack.start()
    stack.supervised["one"].ready.clear()
    os.kill(stack.supervised["one"].record()["pid"], signal.SIGKILL)
    await until(stack.supervised["one"].ready.is_set)
    await stack.stop()
    assert done == ["prepare", "finish"] * 2


async def test_a_child_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib, sys; sys.path[:0] = sys.argv[3].split(':')\n"
        "from tests.unit.local.test_supervisor import component, supervisor\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "async def main():\n"
        "    stack, _ = supervisor(folder, component(folder, 'child')); await stack.start()\n"
        "    print(stack.supervised['child'].record()['pid'], flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "-", str(tmp_path), ":".join(sys.path)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    child = int(await process.stdout.readline())
    assert started(child) is not None
    process.kill()
    await process.wait()
    await until(lambda: started(child) is None)
    assert notes(tmp_path)[-1] == "stop child", "with its own signal, not killed"
