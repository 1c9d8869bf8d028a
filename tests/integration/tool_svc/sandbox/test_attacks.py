"""No attack of the battery gets what it wants, as root and as an ordinary user; each control shows the attack is real."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.tool_svc.sandbox import battery, other_user
from tests.integration.tool_svc.sandbox.attacks import ATTACKS, Attack, Control

_ROOT = Path(__file__).resolve().parents[4]
_MODULE = "tests.integration.tool_svc.sandbox.battery"
_TIMEOUT_S = 180.0
_IS_ROOT = os.geteuid() == 0
_USERS = ["this user", "another user"] if _IS_ROOT else ["this user"]

Results = dict[str, dict[str, str | None]]


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter and that the other user owns."""
    folder = Path(tempfile.mkdtemp(prefix="hearth-attacks-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def results_of(open_folder: Path) -> Callable[[str], Results]:
    """Runs the whole battery once a user."""
    known: dict[str, Results] = {}

    def run(user: str) -> Results:
        if user not in known:
            mine = open_folder / user.replace(" ", "-")
            mine.mkdir(mode=0o755)
            known[user] = _run_here(mine) if user == "this user" else _run_as_nobody(open_folder, mine)
        return known[user]

    return run


def _run_here(folder: Path) -> Results:
    path = os.pathsep.join([str(_ROOT), str(_ROOT / "services")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", _MODULE, str(folder)]
    output = subprocess.run(
        command, env=environment, cwd=_ROOT, stdout=subprocess.PIPE, timeout=_TIMEOUT_S, check=True
    ).stdout
    return json.loads(output)


def _run_as_nobody(shared: Path, folder: Path) -> Results:
    """The sources are copied too: the way to the repository may be closed to the other user."""
    python, environment = other_user.interpreter(shared)
    sources = shared / "sources"
    (sources / "tool_svc/adapters").mkdir(parents=True)
    for name in ("__init__.py", "adapters/__init__.py", "adapters/sandbox", "adapters/egress", "domain", "interfaces"):
        source, target = _ROOT / "services/tool_svc" / name, sources / "tool_svc" / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
    shutil.copytree(Path(__file__).parent, sources / "tests/integration/tool_svc/sandbox")
    os.chown(folder, other_user.NOBODY, other_user.NOBODY)
    environment |= {"PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [python, "-m", _MODULE, str(folder)]
    return json.loads(other_user.run_as_nobody(command, environment, _TIMEOUT_S))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("user", _USERS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_is_stopped(attack: Attack, user: str, results_of: Callable[[str], Results]) -> None:
    assert results_of(user)[attack.name]["confined"] in attack.ends


_CONTROLS = [
    (attack, user)
    for attack in ATTACKS
    for user in _USERS
    if attack.control is Control.ALWAYS
    or (attack.control is Control.SAME_USER and (user != "this user" or not _IS_ROOT))
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("attack", "user"), _CONTROLS, ids=[f"{attack.name}-{user}" for attack, user in _CONTROLS])
def test_works_unconfined(attack: Attack, user: str, results_of: Callable[[str], Results]) -> None:
    assert results_of(user)[attack.name]["unconfined"] == 'Succeeded:"escaped"'


def test_battery_is_large_enough() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 30
    assert battery.LIMITS.wall_time_s <= 2
