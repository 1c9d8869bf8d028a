"""Becomes an MCP server on stdio: gives up rights, then executes the command. Runs alone, as `stdio.py` starts it.

What holds: the process and all that it starts run as a user of their own (when the service is root), without
capabilities; they read and execute the system's folders and those that the operator names, and write their scratch
folder only (Landlock); they have no network and no sockets, cannot leave their process group, trace, mount, make
namespaces or load code into the kernel (seccomp); memory of each process, file sizes, descriptors, processor time and
number of processes are limited. What does not: they can read all of the system's folders and see which paths exist,
they can start processes (an arbitrary program needs that), and the filter names what is refused instead of what is
allowed, because nobody knows what an arbitrary program needs.
"""

import errno
import json
import os
import resource
import signal
import struct
import sys
from typing import Any

from tool_svc.adapters.sandbox import confinement, kernel, landlock, seccomp, syscalls

_EXECUTE = 1
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/ssl"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)
_FILE_BYTES = 64 * 1024 * 1024
_OPEN_FILES = 256
_CPU_S = 600
_TASKS = 128

# x86-64 and aarch64 numbers. Most of these need privileges as well; a filter does not depend on that.
_REFUSED: dict[str, tuple[int, int]] = {
    "socket": (41, 198),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "personality": (135, 92),
}
# Answered ENOSYS, so that programs do without: rings could open sockets past the filter, clone3 hides its flags.
_ABSENT: dict[str, tuple[int, int]] = {
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone3": (435, 435),
}
_CLONE = (56, 220)
# CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NAMESPACES = 0x80 | 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x10000000 | 0x20000000 | 0x40000000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_ARGUMENT_0 = 16


def main(spec_fd: int) -> None:
    """Reads what to become from a descriptor, and becomes it. Never returns."""
    with os.fdopen(spec_fd) as reader:
        spec: dict[str, Any] = json.load(reader)
    try:
        _confine(spec)
        os.execvpe(spec["command"][0], spec["command"], spec["environment"])
    except OSError as error:
        sys.stderr.write(f"hearth: {error.strerror or error}\n")
        sys.stderr.flush()
    os._exit(127)


def _confine(spec: dict[str, Any]) -> None:
    """As `confinement.confine`, for a program that is not known. Raises OSError."""
    abi = landlock.abi_version()
    if abi == 0:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    architecture = syscalls.current()
    scratch: str = spec["scratch"]
    identity = confinement.Identity(spec["uid"], spec["uid"]) if spec["uid"] else None
    tasks = 0 if identity else confinement.count_tasks_of_user()
    os.umask(0o077)
    ruleset = landlock.Ruleset(abi)
    for path in (*_SYSTEM, *spec["paths"]):
        if os.path.exists(path):
            is_folder = os.path.isdir(path)
            ruleset.allow_path(path, (landlock.READ_TREE if is_folder else landlock.READ_FILE) | _EXECUTE)
    ruleset.allow_path("/dev/null", landlock.READ_WRITE_FILE)
    ruleset.allow_path(scratch, landlock.SCRATCH | _EXECUTE)
    if identity is not None:
        os.chown(scratch, identity.uid, identity.gid)
    os.chdir(scratch)
    if identity is not None:
        os.setgroups([])
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    kernel.drop_capabilities(architecture.name)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != spec["parent"]:
        os._exit(1)
    _limit(spec["memory_bytes"], tasks + _TASKS)
    ruleset.restrict_self()
    seccomp.install(_filter(architecture), architecture.name)


def _limit(memory_bytes: int, tasks: int) -> None:
    for which, most in (
        (resource.RLIMIT_CORE, 0),
        # Not RLIMIT_AS: JavaScript engines reserve far more than they use.
        (resource.RLIMIT_DATA, memory_bytes),
        (resource.RLIMIT_FSIZE, _FILE_BYTES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_NPROC, tasks),
        (resource.RLIMIT_CPU, _CPU_S),
    ):
        ceiling = resource.getrlimit(which)[1]
        value = most if ceiling == resource.RLIM_INFINITY else min(most, ceiling)
        resource.setrlimit(which, (value, value))


def _filter(architecture: syscalls.Architecture) -> bytes:
    """Allows all but what is refused."""
    column = 0 if architecture.name == "x86_64" else 1
    program: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, architecture.audit_arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]
    if architecture.foreign_abi_from is not None:
        program += [(_JUMP_AT_LEAST, 0, 1, architecture.foreign_abi_from), (_RETURN, 0, 0, _KILL)]
    for numbers, code in ((_REFUSED, errno.EPERM), (_ABSENT, errno.ENOSYS)):
        for both in numbers.values():
            program += [(_JUMP_EQUAL, 0, 1, both[column]), (_RETURN, 0, 0, _ERRNO | code)]
    program += [
        (_JUMP_EQUAL, 0, 3, _CLONE[column]),
        (_LOAD, 0, 0, _ARGUMENT_0),
        (_JUMP_ANY_BIT, 0, 1, _NAMESPACES),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
