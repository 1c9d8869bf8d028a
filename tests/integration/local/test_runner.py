"""The runner's promises: restarts, order, one per home, failures that name their cause, nothing left behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import nats
import nats.errors
import pytest

from deploy.local import Stack, StackError
from deploy.local.processes import alive, started
from deploy.local.supervisor import launcher

ROOT = Path(__file__).resolve().parents[3]


def command(verb: str, home: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """`make VERB` without make."""
    environment = {**os.environ, "HEARTH_HOME": str(home), "HEARTH_ONLY": "nats", "HEARTH_PORT": "0", **extra}
    return subprocess.run(
        [sys.executable, "-m", "deploy.local", verb],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "this did not come to pass"
        time.sleep(0.02)


def record(home: Path) -> Mapping[str, Mapping[str, int]]:
    return json.loads((home / "state" / "runner.json").read_text())["processes"]


def test_a_process_that_dies_is_started_again_and_the_runner_says_so(stack: Stack) -> None:
    before = stack.restarts("nats")
    first = stack.kill("nats", signal.SIGKILL)
    stack.wait_ready("nats")
    second = stack.kill("nats", signal.SIGTERM)
    stack.wait_ready("nats")
    assert stack.restarts("nats") == before + 2
    assert len({first, second, stack.pid("nats")}) == 3
    said = stack.log("runner").read_text()
    assert "nats ended (signal SIGKILL); starting it again in 0.1 s" in said


def test_the_address_of_a_component_outlives_its_process(stack: Stack) -> None:
    before = stack.address("nats")
    stack.restart("nats")
    assert stack.address("nats") == before
    host, _, port = before.partition(":")
    socket.create_connection((host, int(port)), timeout=2).close()


def test_nats_lets_agent_svc_use_its_subjects_only_and_nobody_without_password(stack: Stack) -> None:
    async def use() -> None:
        refused: list[str] = []

        async def on_error(error: Exception) -> None:
            refused.append(str(error))

        client = await nats.connect(
            stack.nats_url, error_cb=on_error, max_reconnect_attempts=1, inbox_prefix=b"_INBOX.agent_svc"
        )
        try:
            await client.jetstream().add_stream(name="HEARTH_RUNS", subjects=["hearth.run.*"])
            await client.publish("hearth.ev.x", b"1")
            await client.flush()
            assert refused == []
            for subject in ("elsewhere", "hearth.audit.tool_svc", "$JS.API.STREAM.DELETE.HEARTH_AUDIT"):
                await client.publish(subject, b"1")
                await client.flush()
                await asyncio.sleep(0.1)
                assert any("permissions violation" in text for text in refused), subject
                refused.clear()
        finally:
            await client.close()
        with pytest.raises((nats.errors.Error, OSError)):
            await nats.connect(f"nats://{stack.address('nats')}", allow_reconnect=False, error_cb=on_error)

    asyncio.run(use())


def test_up_twice_then_down_twice(home: Path) -> None:
    first = command("up", home, DETACH="1")
    assert first.returncode == 0, first.stdout
    pid, at = record(home)["nats"]["pid"], record(home)["nats"]["started"]
    try:
        again = command("up", home, DETACH="1")
        assert (again.returncode, again.stdout.split(" at ")[0]) == (0, "Hearth is already up")
        assert record(home)["nats"]["pid"] == pid
        status = command("status", home)
        assert status.returncode == 0
        line = next(line.split() for line in status.stdout.splitlines() if line.startswith("nats"))
        assert line[1:5] == [str(pid), record(home)["nats"]["address"], "healthy", "0"]
        assert int(line[5]) > 0
        assert "PSS" in status.stdout
    finally:
        down = command("down", home)
    assert (down.returncode, down.stdout) == (0, "Hearth is down\n")
    assert not alive(pid, at)
    assert command("down", home).stdout == f"Hearth is not running in {home}\n"
    assert command("status", home).returncode == 1


def test_files_of_a_home_are_private_and_env_can_be_sourced(home: Path) -> None:
    with Stack(home, only=("nats",)) as stack:
        shell = subprocess.run(
            ["bash", "-euc", f'. "{home}/env"; echo "$HEARTH_URL $HEARTH_API_KEY"; command -v python'],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={"PATH": "/usr/bin:/bin"},
        )
        assert shell.stdout.split() == [stack.url, stack.api_key, str(Path(sys.executable).parent / "python")]
        private = [home / "env", *stack.credentials.iterdir(), *(home / "state").glob("*.*")]
        assert len(private) > 6
        assert {path.stat().st_mode & 0o077 for path in private} == {0}
        assert stack.credentials.stat().st_mode & 0o777 == 0o700
    assert (home / "env").exists(), "a given home is kept"


def test_a_component_that_cannot_start_is_named_and_nothing_stays(home: Path) -> None:
    (home / "state" / "postgres" / "data").mkdir(parents=True)
    (home / "state" / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(StackError) as failure:
        Stack(home, only=("postgres", "nats")).start()
    text = str(failure.value)
    assert "Hearth did not start: postgres ended while it started" in text
    assert "last lines of" in text
    assert "postgres: could not access the server configuration file" in text, "the server's own words"
    assert all(one["pid"] is None for one in record(home).values())
    assert leftovers(home) == []


def test_a_taken_port_is_named(home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port} of 127.0.0.1 is taken; choose another with HEARTH_PORT"):
            Stack(home, only=("envoy",), port=port).start()


def test_children_do_not_outlive_a_killed_runner(home: Path) -> None:
    assert command("up", home, DETACH="1", HEARTH_ONLY="postgres,nats").returncode == 0
    runner = json.loads((home / "state" / "runner.json").read_text())["pid"]
    processes = {name: (one["pid"], one["started"]) for name, one in record(home).items()}
    os.kill(runner, signal.SIGKILL)
    until(lambda: not any(alive(*process) for process in processes.values()))
    assert "database system is shut down" in (home / "logs" / "postgres.log").read_text(), "in good order"
    # The home is free again, and what it held is there.
    with Stack(home, only=("postgres", "nats")) as stack:
        stack.wait_ready()


def test_a_stack_ends_with_its_program(home: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from deploy.local import Stack\n"
        "Stack(Path(sys.argv[1]), only=('nats',)).start(); print('up', flush=True); time.sleep(60)"
    )
    program = subprocess.Popen([sys.executable, "-c", code, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    assert program.stdout.readline() == "up\n"
    nats_server = record(home)["nats"]
    program.kill()
    program.communicate()
    until(lambda: not alive(nats_server["pid"], nats_server["started"]))
    until(lambda: json.loads((home / "state" / "runner.json").read_text())["state"] == "stopped")


def test_down_ends_what_a_killed_runner_left_but_nobody_elses_process(home: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        at = started(child.pid)
        assert at is not None
        (home / "state").mkdir(parents=True)

        def leave(start: int) -> None:
            one = {"pid": child.pid, "started": start, "stop_signal": 15, "stop_timeout_s": 5, "tier": 0}
            text = json.dumps({"pid": 2**22, "started": 1, "state": "ready", "processes": {"nats": one}})
            (home / "state" / "runner.json").write_text(text)

        leave(at + 1)
        assert "not running" in command("down", home).stdout
        assert child.poll() is None, "the same pid, but another process"
        leave(at)
        assert f"nats (pid {child.pid}) was left over and is stopped" in command("down", home).stdout
        child.wait(5)
    finally:
        child.kill()
        child.wait()


def test_ctrl_c_stops_all(home: Path) -> None:
    environment = {**os.environ, "HEARTH_HOME": str(home), "HEARTH_ONLY": "nats", "HEARTH_PORT": "0"}
    environment.pop("DETACH", None)
    runner = subprocess.Popen(
        [sys.executable, "-m", "deploy.local", "up"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert runner.stdout is not None
    said = ""
    while "Hearth is up" not in said and runner.poll() is None:
        said += runner.stdout.readline()
    processes = {name: (one["pid"], one["started"]) for name, one in record(home).items()}
    assert set(processes) == {"nats"}
    # As a terminal does: to the whole group.
    os.killpg(runner.pid, signal.SIGINT)
    assert runner.wait(20) == 0
    assert runner.stdout.read() == "Hearth stops\n"
    assert not any(alive(*process) for process in processes.values())


def test_an_ordinary_user_runs_it(tmp_path: Path) -> None:
    root = os.geteuid() == 0
    user = 65534 if root else os.geteuid()
    home = tmp_path / "theirs"
    home.mkdir()
    os.chown(home, user, -1)
    as_user = launcher(signal.SIGKILL, (user, user)) if root else []
    environment = {"PATH": os.environ["PATH"], "HEARTH_HOME": str(home), "HEARTH_PORT": "0"}

    def run(verb: str) -> str:
        return subprocess.run(
            [*as_user, sys.executable, "-m", "deploy.local", verb],
            env={**environment, "HEARTH_ONLY": "postgres,nats", "DETACH": "1"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        ).stdout

    assert "Hearth is up" in run("up")
    try:
        assert {one["state"] for one in record(home).values()} == {"ready"}
        assert {path.stat().st_uid for path in home.rglob("*")} == {user}
        if root:
            refused = command("up", home)
            assert refused.returncode == 1
            assert "belongs to another user" in refused.stderr
    finally:
        assert run("down") == "Hearth is down\n"


def leftovers(home: Path) -> list[str]:
    """Command lines of processes that use this home."""
    lines: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(home) in text:
            lines.append(text)
    return lines
