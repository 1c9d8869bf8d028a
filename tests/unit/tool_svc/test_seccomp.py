"""The filter, executed instruction by instruction for both architectures: also for the one that is not here."""

import errno
import struct

import pytest

from tool_svc.adapters.sandbox import seccomp, syscalls

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_EPERM = 0x00050000 | errno.EPERM
_PID = 4711


def run(program: bytes, number: int, arch: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would answer: a small interpreter of classic BPF."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<iIQ6Q", number if number < 2**31 else number - 2**32, arch, 0, *(a % 2**64 for a in padded))
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, constant = code[at]
        at += 1
        match operation:
            case 0x20:
                accumulator = int.from_bytes(data[constant : constant + 4], "little")
            case 0x54:
                accumulator &= constant
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x35:
                at += if_true if accumulator >= constant else if_false
            case 0x05:
                at += constant
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"unknown instruction {operation:#x}")


_ARCHITECTURES = [
    syscalls.Architecture("x86_64", 0xC000003E, 0, 0x40000000),
    syscalls.Architecture("aarch64", 0xC00000B7, 1, None),
]


@pytest.fixture(params=_ARCHITECTURES, ids=lambda architecture: architecture.name)
def architecture(request: pytest.FixtureRequest) -> syscalls.Architecture:
    return request.param


def answer(architecture: syscalls.Architecture, name: str, *arguments: int) -> int:
    number = architecture.number(name)
    assert number is not None
    return run(seccomp.build(architecture, _PID), number, architecture.audit_arch, arguments)


@pytest.mark.parametrize("name", ["read", "write", "openat", "mmap", "futex", "exit_group", "newfstatat", "getdents64"])
def test_what_python_needs_is_allowed(architecture: syscalls.Architecture, name: str) -> None:
    assert answer(architecture, name, 2**64 - 1, 2**64 - 1) == _ALLOW


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("clone", (0x3D0F00,), (17,)),
        ("clone", (0x7D0F00,), (0x3D0F00 | 1 << 40,)),
        ("fcntl", (3, 3), (3, 8)),
        ("ioctl", (1, 0x5401), (1, 0x5412)),
        ("prctl", (15, 0), (1, 0)),
        ("prlimit64", (0, 7), (1, 7)),
        ("tgkill", (_PID, _PID, 6), (1, 1, 6)),
        ("socketpair", (1, 1), (1, 2)),
        ("socketpair", (1, 1 | 0o2000000), (2, 1)),
        ("sendto", (3, 1, 1, 0, 0, 0), (3, 1, 1, 0, 1 << 40, 16)),
        ("utimensat", (3, 0, 0, 0), (-100, 4096, 0, 0)),
    ],
)
def test_what_depends_on_arguments(
    architecture: syscalls.Architecture, name: str, allowed: tuple[int, ...], refused: tuple[int, ...]
) -> None:
    assert answer(architecture, name, *allowed) == _ALLOW
    assert answer(architecture, name, *refused) == _EPERM


def test_special_answers(architecture: syscalls.Architecture) -> None:
    assert answer(architecture, "clone3") == 0x00050000 | errno.ENOSYS
    assert answer(architecture, "getxattr") == 0x00050000 | errno.ENOTSUP


# socket, connect, bind, execve, ptrace, kill, mount, setuid, sendmsg, memfd_create, bpf, unshare
_FORBIDDEN = {
    "x86_64": [41, 42, 49, 59, 101, 62, 165, 105, 46, 319, 321, 272, 57, 58, 90, 92, 280 + 10_000],
    "aarch64": [198, 203, 200, 221, 117, 129, 40, 146, 211, 279, 280, 97, 5, 53, 54, 10_000],
}


def test_everything_else_is_refused(architecture: syscalls.Architecture) -> None:
    program = seccomp.build(architecture, _PID)
    for number in _FORBIDDEN[architecture.name]:
        assert run(program, number, architecture.audit_arch) == _EPERM
    allowed = [n for n in range(600) if run(program, n, architecture.audit_arch) == _ALLOW]
    assert len(allowed) < 150


def test_descriptors_are_received_only_where_it_is_asked_for(architecture: syscalls.Architecture) -> None:
    number = architecture.number("recvmsg")
    assert number is not None
    assert answer(architecture, "recvmsg", 5) == _EPERM
    receiving = seccomp.build(architecture, _PID, receives_descriptors=True)
    assert run(receiving, number, architecture.audit_arch, (5,)) == _ALLOW
    before, after = (
        {n for n in range(600) if run(program, n, architecture.audit_arch) == _ALLOW}
        for program in (seccomp.build(architecture, _PID), receiving)
    )
    assert after - before == {number}


def test_another_architecture_dies(architecture: syscalls.Architecture) -> None:
    program = seccomp.build(architecture, _PID)
    assert run(program, 0, 0x40000003) == _KILL
    if architecture.name == "x86_64":
        assert run(program, 0x40000000, architecture.audit_arch) == _KILL
        assert run(program, 0xFFFFFFFF, architecture.audit_arch) == _KILL


def test_unknown_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        syscalls.current()
