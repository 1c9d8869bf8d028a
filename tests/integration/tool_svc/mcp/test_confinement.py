"""What a server on stdio cannot do and what it can, started by this user and by an ordinary one."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.tool_svc.mcp.battery import ATTACKS, NEEDS
from tests.integration.tool_svc.mcp.conftest import silent, stdio_server
from tests.integration.tool_svc.mcp.reachable import Programs
from tests.integration.tool_svc.sandbox import other_user
from tool_svc.adapters.mcp.client import McpConnections

_ROOT = Path(__file__).resolve().parents[4]
_MODULE = "tests.integration.tool_svc.mcp.battery"
_TIMEOUT_S = 180.0
_IS_ROOT = os.geteuid() == 0
_USERS = ["this user", "another user"] if _IS_ROOT else ["this user"]

Results = dict[str, dict[str, str]]


@pytest.fixture(scope="session")
def results_of(sandbox_dir: Path, programs: Programs) -> Callable[[str], Results]:
    """Runs the whole battery once a user."""
    known: dict[str, Results] = {}

    def run(user: str) -> Results:
        if user not in known:
            folder = sandbox_dir / f"battery-{user.replace(' ', '-')}"
            folder.mkdir(mode=0o755)
            known[user] = _run_here(folder, programs) if user == "this user" else _run_as_nobody(folder, programs)
        return known[user]

    return run


def _run_here(folder: Path, programs: Programs) -> Results:
    path = os.pathsep.join([str(_ROOT), str(_ROOT / "services")])
    command = [sys.executable, "-m", _MODULE, str(folder), sys.executable, *programs.sdk()]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path},
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT_S,
        check=True,
    )
    return json.loads(done.stdout)


def _run_as_nobody(folder: Path, programs: Programs) -> Results:
    """From copies of the sources: the way to the repository may be closed to the other user."""
    sources = programs.folder / "sources"
    for name in ("services/tool_svc", "services/chassis"):
        shutil.copytree(_ROOT / name, sources / Path(name).name, ignore=shutil.ignore_patterns("__pycache__"))
    tests = sources / "tests/integration/tool_svc/mcp"
    tests.mkdir(parents=True)
    for name in ("battery.py", "connecting.py"):
        shutil.copy(Path(__file__).with_name(name), tests)
    os.chown(folder, other_user.NOBODY, other_user.NOBODY)
    # The service starts its processes with an empty environment, in which this interpreter would not find its library.
    starter = programs.folder / "python-with-its-library"
    variables = " ".join(f"{name}={value}" for name, value in programs.environment.items())
    starter.write_text(f'#!/bin/sh\nexec /usr/bin/env {variables} {programs.interpreter} "$@"\n')
    starter.chmod(0o755)
    path = os.pathsep.join([str(sources), str(programs.packages)])
    environment = programs.environment | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [programs.interpreter, "-m", _MODULE, str(folder), str(starter), *programs.sdk()]
    return json.loads(other_user.run_as_nobody(command, environment, _TIMEOUT_S))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("user", _USERS)
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_fails_confined_and_works_unconfined(
    name: str, user: str, results_of: Callable[[str], Results]
) -> None:
    found = results_of(user)[name]
    assert found["confined"].startswith("could not: "), found
    if name == "makes_a_namespace" and not _may_make_namespaces(user):
        return  # Then there is nothing to compare with.
    assert found["unconfined"].startswith("could: "), found


def _may_make_namespaces(user: str) -> bool:
    other = other_user.NOBODY if user == "another user" else None
    done = subprocess.run(["/usr/bin/unshare", "--user", "/bin/true"], user=other, group=other, cwd="/", check=False)
    return done.returncode == 0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("user", _USERS)
@pytest.mark.parametrize("name", NEEDS)
def test_what_a_server_needs_works(name: str, user: str, results_of: Callable[[str], Results]) -> None:
    assert results_of(user)[name]["confined"].startswith("could: ")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("user", _USERS)
def test_whose_process_it_is(user: str, results_of: Callable[[str], Results]) -> None:
    """A user of its own where the service is root, else the service's."""
    own = 64_500 if _IS_ROOT else os.getuid()
    expected = other_user.NOBODY if user == "another user" else own
    assert results_of(user)["user"]["confined"] == f"could: {(expected,) * 3}"


async def test_its_environment_is_its_secrets(connections: McpConnections, programs: Programs) -> None:
    server = stdio_server(programs.sdk(), secrets=("TOKEN",))
    result = await connections.call(server, {"TOKEN": "t0k3n"}, "environment", {}, 20, silent)
    ours = {"PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"}
    assert set(result.value) - ours <= {"TOKEN", "HOME", "TMPDIR", "PATH", "LANG", "LC_CTYPE"}
    assert result.value["TOKEN"] == "t0k3n"
