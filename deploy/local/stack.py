"""A whole stack under the control of a program: for tests, benchmarks and experiments. See the package's docstring."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.local.credentials import Credentials
from deploy.local.home import PROJECT, Home
from deploy.local.nats import url as nats_url
from deploy.local.ports import free_ports
from deploy.local.postgres import DATABASES
from deploy.local.processes import alive, end, family
from deploy.local.runner import OWNER, end_leftovers

_POLL_S = 0.02
_ENDING = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGSEGV}
# What would make a stack of a test depend on the shell it was started from.
_NOT_INHERITED = ("HEARTH_", "OPENAI_", "ANTHROPIC_")


class StackError(Exception):
    """The stack, or a process of it, is not as it was asked to be; the text says what was seen."""


class Stack:
    """One stack in a home of its own; every process is a real one. It ends with the program, however that ends."""

    def __init__(
        self,
        home: Path | None = None,
        *,
        env: Mapping[str, str] | None = None,
        only: Sequence[str] = (),
        port: int = 0,
    ) -> None:
        """Without `home` a temporary folder is made, and removed by `stop()`. `env` is added to the runner's environment.

        `only` names the components to start, with their needs; () is all. `port` 0 is a free one. Nothing runs yet.
        """
        self._temporary = home is None
        # Others than root may have to pass through it: PostgreSQL does not run as root.
        root = home or Path(tempfile.mkdtemp(prefix="hearth-"))
        root.chmod(0o711) if self._temporary else None
        self._home = Home(root.absolute())
        self._env = dict(env or {})
        self._only = tuple(only)
        self._port = port or free_ports(1)[0]
        self._runner: subprocess.Popen[bytes] | None = None
        # Component → start time of the process that was sent an ending signal: it may live on for a moment.
        self._ended: dict[str, int] = {}

    def start(self, timeout_s: float = 300.0) -> "Stack":
        """Returns when every process is ready. Raises StackError with what the runner said; nothing is then left running."""
        self._home.create()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
        environment |= {"HEARTH_HOST": "127.0.0.1", **self._env}
        environment |= {"HEARTH_HOME": str(self._home.root), "HEARTH_PORT": str(self._port)}
        environment |= {"HEARTH_ONLY": ",".join(self._only), OWNER: str(os.getpid())}
        log = self._home.logs / "runner.log"
        with log.open("wb") as output:
            self._runner = subprocess.Popen(
                [sys.executable, "-m", "deploy.local", "run"],
                env=environment,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while self._record().get("state") != "ready" or self._record().get("pid") != self._runner.pid:
            ended = self._runner.poll() is not None
            if ended or time.monotonic() > deadline:
                said = log.read_text(errors="replace")
                self.stop()
                raise StackError(said if ended else f"not ready within {timeout_s:.0f} s:\n{said}")
            time.sleep(_POLL_S)
        return self

    def stop(self, timeout_s: float = 90.0) -> None:
        """Stops all processes in order; returns when they are gone. Does nothing to a stack that does not run."""
        if self._runner is not None:
            if self._runner.poll() is None:
                self._runner.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._runner.wait(timeout_s)
            self._runner.kill()
            self._runner.wait()
            end_leftovers(self._home)
            self._runner = None
        if self._temporary:
            shutil.rmtree(self._home.root, ignore_errors=True)

    def __enter__(self) -> "Stack":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def home(self) -> Path:
        """The folder of state, logs and credentials."""
        return self._home.root

    @property
    def credentials(self) -> Path:
        """The folder of keys and passwords."""
        return self._home.credentials

    @property
    def url(self) -> str:
        """The public address, `http://127.0.0.1:PORT`."""
        return str(self._record()["url"])

    @property
    def target(self) -> str:
        """The public address as a gRPC target."""
        return self.url.partition("://")[2]

    @property
    def api_key(self) -> str:
        """The first administrator's key."""
        return self._credentials().admin_key.read_text().strip()

    @property
    def nats_url(self) -> str:
        """NATS, as agent_svc reaches it."""
        return nats_url(self._credentials(), "agent_svc", self.address("nats"))

    def database_url(self, service: str, *, owner: bool = False) -> str:
        """The database of a service, as its own role or as its owner's."""
        return self._postgres_url(f"{service}_owner" if owner else service, DATABASES[service])

    def superuser_url(self, database: str = "postgres") -> str:
        """A database as the superuser of the cluster."""
        return self._postgres_url("postgres", database)

    def address(self, component: str) -> str:
        """`host:port` at which a component listens."""
        return str(self._process(component)["address"])

    def pid(self, component: str) -> int:
        """The process id of a component. Raises StackError when it has no process now."""
        one = self._process(component)
        if not alive(one["pid"] or 0, one["started"]):
            raise StackError(f"{component} does not run")
        return int(one["pid"])

    def restarts(self, component: str) -> int:
        """How often the runner has started it again."""
        return int(self._process(component)["restarts"])

    def log(self, component: str) -> Path:
        """Its log; "runner" has one too."""
        return self._home.logs / f"{component}.log"

    def processes(self) -> dict[str, list[int]]:
        """Component → its process and all descendants."""
        names: list[str] = list(self._record()["processes"])
        return {name: family(self.pid(name)) for name in names}

    def kill(self, component: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to the process of a component; the runner starts it again if that ends it. Returns its pid."""
        pid = self.pid(component)
        if number in _ENDING:
            self._ended[component] = self._process(component)["started"]
        os.kill(pid, number)
        return pid

    def wait_ready(self, component: str | None = None, timeout_s: float = 30.0) -> None:
        """Returns when a component, or every one, has a living process that was found ready. Raises StackError.

        After `kill` with a signal that ends, that is the process that comes after the killed one.
        """
        deadline = time.monotonic() + timeout_s
        while missing := [name for name in self._names(component) if not self._is_ready(name)]:
            if time.monotonic() > deadline:
                raise StackError(f"{', '.join(missing)} not ready within {timeout_s:.0f} s:\n{self._said()}")
            time.sleep(_POLL_S)

    def restart(self, component: str, timeout_s: float = 60.0) -> None:
        """Ends a process as a shutdown would, and returns when its successor is ready."""
        one = self._process(component)
        self._ended[component] = one["started"]
        end(one["pid"], one["started"], one["stop_signal"], timeout_s)
        self.wait_ready(component, timeout_s)

    def _names(self, component: str | None) -> list[str]:
        return list(self._record()["processes"]) if component is None else [component]

    def _is_ready(self, name: str) -> bool:
        one = self._process(name)
        successor = one["started"] != self._ended.get(name)
        return successor and one["state"] == "ready" and alive(one["pid"] or 0, one["started"])

    def _process(self, component: str) -> dict[str, Any]:
        processes: dict[str, dict[str, Any]] = self._record().get("processes", {})
        if component not in processes:
            raise StackError(f"no component {component!r} here; there are {', '.join(processes) or 'none'}")
        return processes[component]

    def _postgres_url(self, role: str, database: str) -> str:
        password = self._credentials().password(role)
        return f"postgresql://{role}:{password}@{self.address('postgres')}/{database}"

    def _credentials(self) -> Credentials:
        return Credentials(self._home.credentials)

    def _record(self) -> dict[str, Any]:
        return self._home.read_record() or {}

    def _said(self) -> str:
        return self.log("runner").read_text(errors="replace")
