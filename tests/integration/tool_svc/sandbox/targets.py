"""What the attacks aim at: files, sockets and a process, prepared with the rights of whoever runs the suite."""

import contextlib
import os
import secrets
import socket
import ssl
import subprocess
import sysconfig
from collections.abc import Generator
from pathlib import Path
from typing import Any

import tool_svc.adapters.sandbox.pool as service_module


@contextlib.contextmanager
def prepared(folder: Path) -> Generator[dict[str, Any]]:
    """Targets below `folder`, which everybody may enter; gone afterwards."""
    outside = folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    secret = folder / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    owned = folder / "owned"
    owned.write_text("owned")
    refresh(outside)
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        private = stack.enter_context(socket.create_server(("127.0.0.2", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(folder / "unix"))
        unix.listen(16)
        datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagram.bind(str(folder / "datagram"))
        for path in ("unix", "datagram"):
            (folder / path).chmod(0o777)
        abstract_name = f"hearth-{secrets.token_hex(8)}"
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0" + abstract_name)
        abstract.listen(16)
        victim = subprocess.Popen(["/bin/sleep", "600"])
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        yield {
            "outside": str(outside),
            "secret": str(secret),
            "owned": str(owned),
            "service_file": service_module.__file__,
            # Inside the standard library's folder, which tools may read: only this part of it is closed.
            "site_packages": str(Path(sysconfig.get_path("stdlib")) / "site-packages"),
            "tcp_port": tcp.getsockname()[1],
            "private_port": private.getsockname()[1],
            "udp_port": udp.getsockname()[1],
            "unix_path": str(folder / "unix"),
            "unix_datagram_path": str(folder / "datagram"),
            "abstract": "\0" + abstract_name,
            "victim_pid": victim.pid,
            "service_pid": os.getpid(),
            "packages": str(_packages(folder)),
            "certificates": ssl.get_default_verify_paths().cafile or str(secret),
        }


def _packages(folder: Path) -> Path:
    """Two environments: the tool's own, and another tool's."""
    root = folder / "packages"
    for name, module in (("env-own", "hearth_sample.py"), ("env-other", "hidden.py")):
        (root / name).mkdir(parents=True)
        (root / name / module).write_text("VALUE = 1\n")
    return root


def refresh(outside: Path) -> None:
    """What an attack that works takes away is put back."""
    for name in ("deletable", "truncatable", "movable"):
        path = outside / name
        path.write_text("x")
        path.chmod(0o666)
    for name in ("written", "moved"):
        (outside / name).unlink(missing_ok=True)
    if (outside / "made").exists():
        (outside / "made").rmdir()


def is_root() -> bool:
    return os.geteuid() == 0
