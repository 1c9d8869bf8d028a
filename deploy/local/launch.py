"""Becomes a component's process: tied to the runner's life, and as another user where asked; then executes the command.

`python -I -S launch.py PARENT SIGNAL USER GROUP COMMAND…` (USER and GROUP -1: keep). Standard library only, so that the
step costs a few milliseconds and works from any folder. It stands between fork and exec because running Python code in a
forked child of the runner is not safe once that has threads.
"""

import ctypes
import os
import sys
from typing import ClassVar

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
# Which lets the process pass folders that its user may not enter; the first that we hold ourselves is taken.
_CAP_DAC_READ_SEARCH = 2
_CAP_DAC_OVERRIDE = 1

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_: ClassVar = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_: ClassVar = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def main(arguments: list[str]) -> None:
    """Switches user, asks for the signal that ends the process with its parent, and executes. Returns never."""
    parent, number, user, group = (int(text) for text in arguments[:4])
    command = arguments[4:]
    if user >= 0:
        become(user, group)
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit("the runner is gone")
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"cannot execute {command[0]}: {error}")


def become(user: int, group: int) -> None:
    """Gives up root for `user`, who keeps only the right to pass folders closed to him (a home of mode 0700)."""
    capability = _reach()
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
    mask = 0 if capability is None else 1 << capability
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)(_Data(mask, mask, mask), _Data(0, 0, 0))
    if _libc.capset(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    if capability is not None:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def _reach() -> int | None:
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    if _libc.capget(ctypes.byref(header), data) != 0:
        return None
    held: int = data[0].permitted
    return next((bit for bit in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if held >> bit & 1), None)


def _prctl(option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


if __name__ == "__main__":
    main(sys.argv[1:])
