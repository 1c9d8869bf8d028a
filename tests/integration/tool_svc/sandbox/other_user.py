"""An interpreter that an unprivileged user can run, even where ours lies in a home of mode 0700."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NOBODY = 65_534
_LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "idlelib", "ensurepip", "__pycache__", "*.a", "config-*")


def interpreter(folder: Path) -> tuple[str, dict[str, str]]:
    """A copy of the running Python without installed packages: its path and the environment it needs."""
    base = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home = folder / "python"
    (home / "bin").mkdir(parents=True)
    (home / "lib").mkdir()
    shutil.copy(Path(os.path.realpath(sys.executable)), home / "bin" / "python")
    for library in (base / "lib").glob("libpython*.so*"):
        shutil.copy(library, home / "lib" / library.name, follow_symlinks=True)
    shutil.copytree(base / "lib" / version, home / "lib" / version, ignore=_LEFT_OUT)
    (home / "lib" / version / "site-packages").mkdir()
    return str(home / "bin" / "python"), {"LD_LIBRARY_PATH": str(home / "lib"), "PYTHONHOME": str(home)}


def run_as_nobody(command: list[str], environment: dict[str, str], timeout_s: float) -> str:
    """Standard output of a program run as user and group nobody. Raises CalledProcessError."""
    done = subprocess.run(
        command,
        env=environment,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        stdout=subprocess.PIPE,
        timeout=timeout_s,
        check=True,
        text=True,
    )
    return done.stdout
