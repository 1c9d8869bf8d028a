"""The system call filter: a classic BPF program that allows what a Python function needs and refuses the rest.

What is not listed answers EPERM, so that Python code sees a PermissionError with a name instead of a dead process.
Another architecture's calls kill the process. Calls that would be harmless with some arguments and dangerous with
others are compared by argument; pointers cannot be followed by a filter, so calls that hide their target behind one
(sendmsg, chmod by path) are refused altogether.
"""

import ctypes
import errno
import struct
from collections.abc import Sequence

from tool_svc.adapters.sandbox import kernel, syscalls

_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1

_KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000
_ALLOW = 0x7FFF0000

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_RETURN = 0x06  # BPF_RET | BPF_K
# So many comparisons one after the other are cheaper than another branch.
_LEAF = 4

_NR_OFFSET = 0
_ARCH_OFFSET = 4
_ARGUMENTS_OFFSET = 16

_ALWAYS = """
    access alarm brk chdir clock_getres clock_gettime clock_nanosleep close close_range copy_file_range dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 exit exit_group faccessat faccessat2
    fadvise64 fallocate fchdir fchmod fdatasync flock fstat fstatfs fsync ftruncate futex getcpu getcwd getdents64
    getegid geteuid getgid getgroups getitimer getpeername getpgrp getpid getppid getrandom getresgid getresuid
    getrlimit getrusage getsockname getsockopt gettid gettimeofday getuid lseek lstat madvise membarrier mkdir mkdirat
    mmap mprotect mremap munmap nanosleep newfstatat open openat pause pipe pipe2 poll ppoll pread64 preadv pselect6
    pwrite64 pwritev read readlink readlinkat readv recvfrom rename renameat renameat2 restart_syscall rmdir rseq
    rt_sigaction rt_sigpending rt_sigprocmask rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_getaffinity sched_yield
    select sendfile set_robust_list set_tid_address setitimer shutdown sigaltstack splice stat statfs statx symlink
    symlinkat sysinfo time times umask uname unlink unlinkat write writev
"""

# What glibc and musl pass to start a thread; anything else would be a process or a namespace.
_THREAD_FLAGS = (0x3D0F00, 0x7D0F00)
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, record locks (classic and open-file), F_DUPFD_CLOEXEC, F_GETPIPE_SZ.
# Absent: F_SETOWN and F_SETSIG, which make the kernel send signals for the caller.
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
# TCGETS (isatty), FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL_REQUESTS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)
_PR_SET_NAME = 15
_EXTENDED_ATTRIBUTES = ("getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr")
_AF_UNIX = 1
_SOCK_STREAM = 1
_SOCK_TYPE_MASK = 0xF

_Instruction = tuple[int, int, int, int]
_ALLOWED: _Instruction = (_RETURN, 0, 0, _ALLOW)
_REFUSED: _Instruction = (_RETURN, 0, 0, _ERRNO | errno.EPERM)


def build(architecture: syscalls.Architecture, own_pid: int, *, receives_descriptors: bool = False) -> bytes:
    """The filter for a process with this pid, as an array of struct sock_filter.

    With `receives_descriptors` the process may take what is sent to it over a socket that it was given.
    """
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_EQUAL, 1, 0, architecture.audit_arch),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NR_OFFSET),
    ]
    if architecture.foreign_abi_from is not None:
        program += [(_AT_LEAST, 0, 1, architecture.foreign_abi_from), (_RETURN, 0, 0, _KILL_PROCESS)]
    always = [*_ALWAYS.split(), *(["recvmsg"] if receives_descriptors else [])]
    answers = [*((name, [_ALLOWED]) for name in always), *_conditional(own_pid)]
    numbered = [(number, body) for name, body in answers if (number := architecture.number(name)) is not None]
    program += _search(sorted(numbered, key=lambda entry: entry[0]))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _search(entries: list[tuple[int, list[_Instruction]]]) -> list[_Instruction]:
    """Finds the loaded number among entries in order by halving: the kernel runs a new filter once for every number there is."""
    if len(entries) <= _LEAF:
        chain = [instruction for number, body in entries for instruction in ((_EQUAL, 0, len(body), number), *body)]
        return [*chain, _REFUSED]
    middle = len(entries) // 2
    below = _search(entries[:middle])
    return [(_AT_LEAST, 0, 1, entries[middle][0]), (_JUMP, 0, 0, len(below)), *below, *_search(entries[middle:])]


def for_pid(program: bytes, built_for: int, pid: int) -> bytes:
    """A filter that was built for one pid, for another: building takes a hundred times as long."""
    before, after = (struct.pack("<HBBI", _EQUAL, 0, 1, value) for value in (built_for, pid))
    assert program.count(before) == 1
    return program.replace(before, after)


def install(program: bytes, machine: str) -> None:
    """Apply the filter to this process for ever; needs no_new_privs. Raises OSError."""
    count = len(program) // 8
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: unsigned short len, padding, pointer.
    header = struct.pack("<HxxxxxxQ", count, ctypes.addressof(buffer))
    header_buffer = ctypes.create_string_buffer(header, len(header))
    kernel.syscall(_SYS_SECCOMP[machine], _SET_MODE_FILTER, 0, ctypes.byref(header_buffer))


def _conditional(own_pid: int) -> list[tuple[str, list[_Instruction]]]:
    return [
        # glibc tries clone3 first, whose flags are behind a pointer; ENOSYS makes it use clone.
        ("clone3", [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]),
        # shutil.copy2 asks for extended attributes and understands only that there are none.
        *((name, [(_RETURN, 0, 0, _ERRNO | errno.ENOTSUP)]) for name in _EXTENDED_ATTRIBUTES),
        ("clone", _zero_high(0) + _low_in(0, _THREAD_FLAGS)),
        ("fcntl", _low_in(1, _FCNTL_COMMANDS)),
        ("ioctl", _low_in(1, _IOCTL_REQUESTS)),
        ("prctl", _low_in(0, (_PR_SET_NAME,))),
        # Pid 0 only: another pid of the same user would be reachable otherwise.
        ("prlimit64", _low_in(0, (0,))),
        ("tgkill", _low_in(0, (own_pid,))),
        # asyncio wakes itself through a socket pair. A datagram pair could send to any path.
        ("socketpair", _require_low(0, _AF_UNIX) + _low_in(1, (_SOCK_STREAM,), mask=_SOCK_TYPE_MASK)),
        ("sendto", _null_pointer(4)),
        # By descriptor only: Landlock does not guard times by path.
        ("utimensat", _null_pointer(1)),
    ]


def _low_in(argument: int, values: Sequence[int], *, mask: int | None = None) -> list[_Instruction]:
    """Allow when the low 32 bits of an argument (what the kernel uses of an int) are one of `values`, else EPERM."""
    code: list[_Instruction] = [(_LOAD, 0, 0, _low(argument))]
    if mask is not None:
        code.append((_AND, 0, 0, mask))
    for value in values:
        code += [(_EQUAL, 0, 1, value), _ALLOWED]
    return [*code, _REFUSED]


def _require_low(argument: int, value: int) -> list[_Instruction]:
    return [(_LOAD, 0, 0, _low(argument)), (_EQUAL, 1, 0, value), _REFUSED]


def _zero_high(argument: int) -> list[_Instruction]:
    return [(_LOAD, 0, 0, _low(argument) + 4), (_EQUAL, 1, 0, 0), _REFUSED]


def _null_pointer(argument: int) -> list[_Instruction]:
    return _zero_high(argument) + _low_in(argument, (0,))


def _low(argument: int) -> int:
    return _ARGUMENTS_OFFSET + 8 * argument
