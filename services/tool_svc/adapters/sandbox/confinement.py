"""Takes a freshly forked process from full rights to almost none, in the one order that works.

Path descriptors are opened before the user is dropped (a home of mode 0700 may lie on the way to the standard
library), the user is dropped before Landlock and seccomp (which would forbid it), the parent-death signal is set after
the user changed (which clears it), and seccomp comes last because it forbids what the others need.
"""

import os
import platform
import resource
import signal
import sys
import sysconfig
from dataclasses import dataclass

from tool_svc.adapters.sandbox import kernel, landlock, seccomp, syscalls

# Not readable by tools although below the standard library: what is installed, and what no tool needs.
_HIDDEN = {"site-packages", "dist-packages", "test", "idlelib", "ensurepip", "turtledemo"}
_ZONEINFO = "/usr/share/zoneinfo"
_NULL = "/dev/null"
# Stands in the prepared filter for a worker's own pid.
_ANY_PID = 0x7FFFFFF1


@dataclass(frozen=True)
class Identity:
    """The user and group a worker runs as, instead of root."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Needs:
    """What a worker gets beyond the standard library: a channel to the egress proxy, a folder of packages."""

    network: bool = False
    packages: str = ""


def standard_library_paths() -> list[str]:
    """The folders that imports of the standard library come from, extension modules included."""
    paths = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    paths += [path for path in sys.path if path.endswith("lib-dynload")]
    return [path for path in dict.fromkeys(os.path.realpath(path) for path in paths) if os.path.isdir(path)]


class Policy:
    """What all workers of a pool share, prepared once: most of Landlock's rules, and the system call filter.

    Landlock cannot take a folder out of a tree that it allows, and installed packages lie inside the standard
    library. So one ruleset, made once, names every entry of the library but those, and allows all scratch folders; each
    worker adds a second of a few rules that allows the library as a whole and its own scratch folder. What both allow
    is allowed.
    """

    def __init__(self, landlock_abi: int, scratch_root: str, packages_root: str) -> None:
        self._abi = landlock_abi
        self._library = standard_library_paths()
        self._shared = [(_NULL, landlock.READ_WRITE_FILE)]
        if os.path.isdir(_ZONEINFO):
            self._shared.append((_ZONEINFO, landlock.READ_TREE))
        certificates = _readable(_certificate_paths())
        system_libraries = _readable(_system_library_paths()) if packages_root else []
        self._ruleset = self._common_ruleset(scratch_root, packages_root, [*certificates, *system_libraries])
        self._filters = {
            receives: seccomp.build(syscalls.current(), _ANY_PID, receives_descriptors=receives)
            for receives in (False, True)
        }
        # For the second ruleset: opened now, because a worker's user may not be able to reach them.
        self._paths = _opened([*self._shared, *((folder, landlock.READ_TREE) for folder in self._library)])
        self._network_paths = _opened(certificates)
        self._package_paths = _opened(system_libraries)

    def apply(self, scratch_fd: int, machine: str, needs: Needs) -> None:
        """Confine this process for ever. Raises OSError."""
        self._ruleset.restrict_self()
        own = landlock.Ruleset(self._abi)
        for fd, rights in self._paths:
            own.allow(fd, rights)
        if needs.network:
            for fd, rights in self._network_paths:
                own.allow(fd, rights)
        if needs.packages:
            for fd, rights in self._package_paths:
                own.allow(fd, rights)
            own.allow_path(needs.packages, landlock.READ_TREE)
        own.allow(scratch_fd, landlock.SCRATCH)
        own.restrict_self()
        seccomp.install(seccomp.for_pid(self._filters[needs.network], _ANY_PID, os.getpid()), machine)

    def _common_ruleset(self, scratch_root: str, packages_root: str, extra: list[tuple[str, int]]) -> landlock.Ruleset:
        ruleset = landlock.Ruleset(self._abi)
        packages = [(packages_root, landlock.READ_TREE)] if packages_root else []
        for path, rights in [*self._shared, *packages, *extra, (scratch_root, landlock.SCRATCH)]:
            ruleset.allow_path(path, rights)
        for folder in self._library:
            for entry in os.scandir(folder):
                if entry.name not in _HIDDEN:
                    ruleset.allow_path(entry.path, landlock.READ_TREE if entry.is_dir() else landlock.READ_FILE)
        return ruleset


def _certificate_paths() -> list[str]:
    """The certificates that `ssl` trusts by default; none for an interpreter that was built without it."""
    try:
        import ssl
    except ImportError:
        return []
    paths = ssl.get_default_verify_paths()
    # Folders of certificates hold links to files that lie elsewhere.
    return [path for path in (paths.cafile, paths.capath, "/usr/share/ca-certificates") if path]


def _system_library_paths() -> list[str]:
    """What compiled packages link against."""
    return [f"/usr/lib/{platform.machine()}-linux-gnu", "/usr/lib64", "/lib64", "/etc/ld.so.cache"]


def _readable(paths: list[str]) -> list[tuple[str, int]]:
    """Those of the paths that there are, each with the right to read it."""
    real = dict.fromkeys(os.path.realpath(path) for path in paths)
    found = [path for path in real if os.path.exists(path)]
    return [(path, landlock.READ_TREE if os.path.isdir(path) else landlock.READ_FILE) for path in found]


def _opened(rules: list[tuple[str, int]]) -> list[tuple[int, int]]:
    return [(os.open(path, os.O_PATH), rights) for path, rights in rules]


def address_space() -> int:
    """Bytes of address space this process uses, which a memory limit comes on top of."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def confine(policy: Policy | None, scratch: str, identity: Identity | None, parent_pid: int, needs: Needs) -> None:
    """Give up every right but: reading the standard library, using `scratch` (the current folder now), computing.

    Without a policy, Landlock and seccomp are left out: the operator accepted that by name. Raises OSError.
    """
    machine = syscalls.current().name
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
    if identity is not None:
        os.chown(scratch, identity.uid, identity.gid)
    os.chdir(scratch)
    scratch_fd = os.open(scratch, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    _drop_user(identity, machine)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
    if policy is not None:
        policy.apply(scratch_fd, machine, needs)


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
