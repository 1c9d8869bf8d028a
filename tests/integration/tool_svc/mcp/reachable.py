"""Programs for confined processes, in a folder that every user can pass: a Python with the SDK, our fakes, npm's server."""

import importlib.metadata
import re
import shutil
from pathlib import Path

from deploy.local.home import PROJECT
from tests.integration.tool_svc.sandbox.other_user import interpreter

_FAKES = PROJECT / "tests" / "fakes" / "mcp"
_NPM = PROJECT / ".venv" / "npm"


class Programs:
    """Commands that run servers on stdio, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        python, environment = interpreter(folder)
        packages = folder / "packages"
        done: set[str] = set()
        # The second is needed by an extra of a package that the first needs.
        for name in ("mcp", "cryptography"):
            _copy_distribution(name, packages, done)
        self.packages = packages
        self.interpreter, self.environment = python, environment
        variables = [f"{name}={value}" for name, value in {**environment, "PYTHONPATH": str(packages)}.items()]
        self._python = ("/usr/bin/env", *variables, python)
        for name in ("sdk_server.py", "hostile_stdio.py"):
            shutil.copy(_FAKES / name, folder / name)

    def sdk(self) -> tuple[str, ...]:
        """The official SDK's server."""
        return (*self._python, str(self.folder / "sdk_server.py"))

    def hostile(self, face: str) -> tuple[str, ...]:
        """The hostile one."""
        return (*self._python, str(self.folder / "hostile_stdio.py"), face)

    def everything(self) -> tuple[str, ...]:
        """The one from npm."""
        modules = self.folder / "npm" / "node_modules"
        if not modules.exists():
            source = _NPM / "node_modules"
            assert source.is_dir(), "run `make mcp-server` first, as `make test` does"
            shutil.copytree(source, modules, symlinks=True)
        node = shutil.which("node")
        assert node is not None, "run `make mcp-server` first, as `make test` does"
        return (node, str(modules / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"), "stdio")


def _copy_distribution(name: str, folder: Path, done: set[str]) -> None:
    """A package and all that it needs, as it is installed here."""
    name = re.sub(r"[-_.]+", "-", name).lower()
    if name in done:
        return
    done.add(name)
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return  # Needed on another platform only, or for an extra.
    for file in distribution.files or ():
        if file.parts[0] not in ("..", "__pycache__"):
            target = folder / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(distribution.locate_file(file)), target)
    for requirement in distribution.requires or ():
        if "extra ==" not in requirement:
            _copy_distribution(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0], folder, done)
