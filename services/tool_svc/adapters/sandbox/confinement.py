"""Takes a freshly forked process from full rights to almost none, in the one order that works.

Path descriptors are opened before the user is dropped (a home of mode 0700 may lie on the way to the standard
library), the user is dropped before Landlock and seccomp (which would forbid it), the parent-death signal is set after
the user changed (which clears it), and seccomp comes last because it forbids what the others need.
"""

import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass

from tool_svc.adapters.sandbox import kernel, landlock, seccomp, syscalls

# Not readable by tools although below the standard library: what is installed, and what no tool needs.
_HIDDEN = {"site-packages", "dist-packages", "test", "idlelib", "ensurepip", "turtledemo"}
_ZONEINFO = "/usr/share/zoneinfo"


@dataclass(frozen=True)
class Readable:
    """A path descriptor and the Landlock rights it gives."""

    fd: int
    rights: int


@dataclass(frozen=True)
class Identity:
    """The user and group a worker runs as, instead of root."""

    uid: int
    gid: int


def standard_library_paths() -> list[str]:
    """The folders that imports of the standard library come from, extension modules included."""
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    paths += [path for path in sys.path if path.endswith("lib-dynload")]
    return [path for path in dict.fromkeys(os.path.realpath(path) for path in paths) if os.path.isdir(path)]


def open_readable() -> list[Readable]:
    """Path descriptors of all that a tool may read, opened once for all workers."""
    readable = [Readable(os.open("/dev/null", os.O_PATH), landlock.READ_WRITE_FILE)]
    entries = [_ZONEINFO] if os.path.isdir(_ZONEINFO) else []
    for folder in standard_library_paths():
        entries += [entry.path for entry in os.scandir(folder) if entry.name not in _HIDDEN]
    for path in entries:
        rights = landlock.READ_TREE if os.path.isdir(path) else landlock.READ_FILE
        readable.append(Readable(os.open(path, os.O_PATH), rights))
    return readable


def address_space() -> int:
    """Bytes of address space this process uses, which a memory limit comes on top of."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def confine(
    readable: Sequence[Readable],
    scratch: str,
    identity: Identity | None,
    parent_pid: int,
    landlock_abi: int,
) -> None:
    """Give up every right but: reading `readable`, using `scratch` (which becomes the current folder), computing.

    With `landlock_abi` 0, Landlock and seccomp are left out: the operator accepted that by name. Raises OSError.
    """
    architecture = syscalls.current()
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
    if identity is not None:
        os.chown(scratch, identity.uid, identity.gid)
    os.chdir(scratch)
    scratch_fd = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    _drop_user(identity, architecture.name)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
    if landlock_abi == 0:
        os.close(scratch_fd)
        return
    ruleset = landlock.Ruleset(landlock_abi)
    for path in readable:
        ruleset.allow(path.fd, path.rights)
    ruleset.allow(scratch_fd, landlock.SCRATCH)
    ruleset.restrict_self()
    os.close(scratch_fd)
    seccomp.install(seccomp.build(architecture, os.getpid()), architecture.name)


def _drop_user(identity: Identity | None, machine: str) -> None:
    if identity is not None:
        os.setgroups([])
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    kernel.drop_capabilities(machine)


def may_change_user() -> bool:
    """Whether this process can become another user (root that kept CAP_SETUID, CAP_SETGID and CAP_CHOWN)."""
    if os.geteuid() != 0:
        return False
    with open("/proc/self/status", encoding="ascii") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    needed = (1 << 0) | (1 << 6) | (1 << 7)  # CAP_CHOWN, CAP_SETGID, CAP_SETUID
    return effective & needed == needed


def count_tasks_of_user() -> int:
    """How many threads the processes of this real user have now: RLIMIT_NPROC counts them all together."""
    uid = os.getuid()
    tasks = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.stat(f"/proc/{name}").st_uid == uid:
                tasks += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue  # It ended meanwhile.
    return tasks
