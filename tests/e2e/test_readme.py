"""Every block of the README, run as a newcomer would run it: top to bottom, with the local model, in a home of its own."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text())
# The block that is this very run.
ITSELF = "make test\n"


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment with a free port and a home that nobody has used; whatever runs there is stopped in the end."""
    home = tmp_path_factory.mktemp("newcomer")
    # Others than root may have to pass through it: PostgreSQL does not run as root.
    for folder in (home, *home.parents[:2]):
        folder.chmod(0o711)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("HEARTH_", "OPENAI_", "ANTHROPIC_", "MAKE", "MFLAGS"))
    }
    environment = kept | {"HEARTH_HOME": str(home), "HEARTH_PORT": port}
    yield environment
    run("make down", environment)


def run(script: str, environment: dict[str, str], timeout_s: float = 240) -> str:
    """Runs a shell script, from the root of the project; returns what it prints."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def at_home(script: str) -> str:
    """The same script for a home that is not `.hearth`."""
    return script.replace(". .hearth/env", '. "$HEARTH_HOME/env"')


def shell_block(start: str) -> str:
    """The shell block that begins so. Raises StopIteration if the README has none."""
    return next(text for kind, text in BLOCKS if kind == "sh" and text.startswith(start))


def test_every_block_is_run_by_a_test() -> None:
    known = ("make up", ". .hearth/env", "make test", "TOKEN=")
    for kind, text in BLOCKS:
        assert kind == "python" or text.startswith(known), text


@pytest.mark.timeout(600)
def test_the_two_commands_and_what_the_readme_promises_of_them(newcomer: dict[str, str]) -> None:
    started = run(shell_block("make up"), newcomer)
    assert newcomer["HEARTH_PORT"] in started
    assert "already" in run(shell_block("make up"), newcomer)

    *talk, status, down = shell_block(". .hearth/env").splitlines()
    environment, first, second, listing = talk
    run("\n".join(at_home(line) for line in (environment, first)), newcomer)
    # The whole stack stops and starts in between: what was said must still be there.
    run(down, newcomer)
    run(shell_block("make up"), newcomer)
    answer = run("\n".join(at_home(line) for line in (environment, second)), newcomer)
    assert answer.strip()
    run("\n".join(at_home(line) for line in (environment, listing)), newcomer)
    shown = run(status, newcomer)
    for name in ("postgres", "nats", "envoy", "user_svc", "tool_svc", "memory_svc", "agent_svc", "gateway"):
        assert name in shown

    runs = json.loads(run(at_home(f"{environment}\nhearth run list --json"), newcomer))
    context = run(at_home(f"{environment}\nhearth run show {runs[0]['id']} --context"), newcomer)
    assert "Rex" in context

    agents = json.loads(run(at_home(f"{environment}\n{shell_block('TOKEN=')}"), newcomer))
    assert [agent["name"] for agent in agents["agents"]] == ["demo"]
    (python,) = (text for kind, text in BLOCKS if kind == "python")
    said = run(at_home(f"{environment}\n{sys.executable} - <<'EOF'\n{python}EOF"), newcomer)
    assert said.strip()
    run(down, newcomer)


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    assert shell_block("make test") == ITSELF
    assert "make test" in (ROOT / ".ci" / "run").read_text()
