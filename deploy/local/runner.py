"""The process that owns a running stack: starts it, keeps its record, restarts what dies, and stops it on a signal."""

import asyncio
import ipaddress
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.local import local_model
from deploy.local.component import http_get
from deploy.local.components import Catalogue
from deploy.local.credentials import Credentials
from deploy.local.home import Home, write_private
from deploy.local.ports import bindable, free_ports
from deploy.local.processes import end, started
from deploy.local.supervisor import StartError, Supervisor

# Names the process with which the stack ends; set by Stack.
OWNER = "HEARTH_RUNNER_OWNER"
_FRONT_DOOR_TIMEOUT_S = 60.0


class Runner:
    """One run of the stack in `home`."""

    def __init__(self, home: Home, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = environment
        self._host = environment.get("HEARTH_HOST") or "127.0.0.1"
        self._port = int(environment.get("HEARTH_PORT") or "8080")
        self._credentials = Credentials(home.credentials)
        self._supervisor: Supervisor | None = None
        self._state = "starting"
        self._failure = ""
        self._begin = time.monotonic()

    async def run(self) -> int:
        """Until a signal ends it. Returns the exit code; 1 when something did not start."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_stop, stop)
        owner = self._environment.get(OWNER)
        if owner is not None:
            self._watch(int(owner), stop)
        self._changed()
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
        error = None if starting.cancelled() else starting.exception()
        if error is None:
            await stopping
        elif isinstance(error, StartError):
            self._failure = str(error)
        else:
            self._failure = "".join(traceback.format_exception(error))
        if self._failure:
            print(f"\nHearth did not start: {self._failure}", flush=True)
        await self._stop()
        return 1 if self._failure else 0

    def _watch(self, owner: int, stop: asyncio.Event) -> None:
        """Stops when the program that started this stack has ended, however that was."""
        try:
            descriptor = os.pidfd_open(owner)
        except ProcessLookupError:
            stop.set()
            return
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            stop.set()

        loop.add_reader(descriptor, ended)

    async def _start(self) -> None:
        self._credentials.ensure()
        if self._port == 0:
            self._port = free_ports(1)[0]
        public = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        only = [name for name in self._environment.get("HEARTH_ONLY", "").split(",") if name]
        components = Catalogue(self._home, self._credentials, self._environment, public).components(only)
        names = {component.name for component in components}
        if "envoy" in names and not bindable(self._host, self._port):
            raise StartError(f"port {self._port} of {self._host} is taken; choose another with HEARTH_PORT")
        if "local_model" in names:
            _check_local_model()
        print(f"Hearth starts {', '.join(component.name for component in components)}", flush=True)
        self._supervisor = Supervisor(components, self._home.logs, self._changed, _say)
        await self._supervisor.start()
        if {"envoy", "user_svc", "gateway"} <= names:
            await self._through_front_door()
        write_private(self._home.env_file, self._env_text())
        self._state = "ready"
        self._changed()
        self._greet("envoy" in names)

    async def _through_front_door(self) -> None:
        """What a client meets: public keys and the page, through Envoy."""
        deadline = time.monotonic() + _FRONT_DOOR_TIMEOUT_S
        address = f"{_reachable(self._host)}:{self._port}"
        if self._tls():
            return
        for path in ("/.well-known/jwks.json", "/"):
            status = 0
            while status != 200:
                if time.monotonic() > deadline:
                    raise StartError(f"the door does not work: GET {path} answers {status}; see {self._home.logs}")
                try:
                    status, _ = await http_get(address, path)
                except OSError:
                    status = 0
                await asyncio.sleep(0 if status == 200 else 0.05)

    async def _stop(self) -> None:
        self._state = "stopping"
        self._changed()
        if self._supervisor is not None:
            print("Hearth stops", flush=True)
            await self._supervisor.stop()
        self._state = "failed" if self._failure else "stopped"
        self._changed()

    def _asked_to_stop(self, stop: asyncio.Event) -> None:
        if stop.is_set() and self._supervisor is not None:
            print("asked twice: ending everything at once", flush=True)
            self._supervisor.kill()
        stop.set()

    def _changed(self) -> None:
        processes = self._supervisor.supervised if self._supervisor else {}
        record: dict[str, Any] = {
            "pid": os.getpid(),
            "started": started(os.getpid()),
            "state": self._state,
            "failure": self._failure,
            "url": self._url(),
            "processes": {name: one.record() for name, one in processes.items()},
        }
        self._home.write_record(record)

    def _tls(self) -> bool:
        return bool(self._environment.get("HEARTH_TLS_CERT") and self._environment.get("HEARTH_TLS_KEY"))

    def _url(self) -> str:
        return f"{'https' if self._tls() else 'http'}://{_reachable(self._host)}:{self._port}"

    def _env_text(self) -> str:
        programs = Path(sys.executable).parent
        return (
            "# Source this: it points the `hearth` command and the examples at this stack.\n"
            f"export HEARTH_URL={shlex.quote(self._url())}\n"
            f"export HEARTH_API_KEY={self._credentials.admin_key.read_text().strip()}\n"
            f"export PATH={shlex.quote(str(programs))}:$PATH\n"
        )

    def _greet(self, with_door: bool) -> None:
        seconds = time.monotonic() - self._begin
        print(f"Hearth is up ({seconds:.1f} s).", flush=True)
        if not with_door:
            return
        print(
            f"\n  address    {self._url()}\n"
            f"  admin key  {_short(self._credentials.admin_key)}\n"
            f"  logs       {_short(self._home.logs)}\n"
            "\nTry\n"
            f"  source {_short(self._home.env_file)}\n"
            '  hearth chat --agent demo "My dog is called Rex."\n'
            f"  or open {self._url()} in a browser\n"
            "\n`make status` shows the processes; Ctrl-C or `make down` stops them.",
            flush=True,
        )


def run(home: Home, environment: Mapping[str, str]) -> int:
    """Runs the stack in this process until a signal. Returns the exit code; 3 when another runner has the home."""
    home.create()
    lock = home.lock()
    if lock is None:
        return 3
    for line in end_leftovers(home):
        print(line, flush=True)
    return asyncio.run(Runner(home, environment).run())


def end_leftovers(home: Home) -> Sequence[str]:
    """Ends what a runner that died left running, from the top down. Returns what was done, in lines."""
    record = home.read_record() or {"processes": {}}
    lines: list[str] = []
    for name, one in sorted(record["processes"].items(), key=lambda item: -item[1]["tier"]):
        if one["pid"] and one["started"] and end(one["pid"], one["started"], one["stop_signal"], one["stop_timeout_s"]):
            lines.append(f"{name} (pid {one['pid']}) was left over and is stopped")
    return lines


def _check_local_model() -> None:
    try:
        local_model.model_file()
    except FileNotFoundError as error:
        raise StartError(f"{error} (HEARTH_LOCAL_MODEL=0 does without)") from error


def _reachable(host: str) -> str:
    """The address by which this machine reaches a server that listens at `host`."""
    address = ipaddress.ip_address(host) if host != "localhost" else None
    if address is not None and address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{host}]" if ":" in host else host


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _say(line: str) -> None:
    print(line, flush=True)
