"""Landlock: which files a process may open, and that it may not use TCP, signals or abstract sockets (landlock(7)).

A right that the running kernel's ABI does not know yet cannot be asked for; seccomp closes those gaps.
"""

import ctypes
import errno
import os

from tool_svc.adapters.sandbox import kernel

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
_MAKE_DIR = 1 << 7
_MAKE_REG = 1 << 8
_MAKE_SYM = 1 << 12
_REFER = 1 << 13
_TRUNCATE = 1 << 14

# Rights known at each ABI: the first 13, then REFER (2), TRUNCATE (3), IOCTL_DEV (5).
_FS_RIGHTS_AT = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_NET_BIND_AND_CONNECT_TCP = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

READ_FILE = _READ_FILE
READ_TREE = _READ_FILE | _READ_DIR
READ_WRITE_FILE = _READ_FILE | _WRITE_FILE
SCRATCH = READ_TREE | _WRITE_FILE | _TRUNCATE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _REFER


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi_version() -> int:
    """The kernel's Landlock ABI; 0 where Landlock is absent or disabled at boot."""
    try:
        return kernel.syscall(_CREATE_RULESET, 0, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


class Ruleset:
    """An allow-list of path descriptors, applied to the calling process for ever by `restrict_self`.

    `tcp` leaves TCP as it is.
    """

    def __init__(self, abi: int, *, tcp: bool = False) -> None:
        self._handled_fs = (1 << _FS_RIGHTS_AT[min(abi, 5)]) - 1
        words = [self._handled_fs]
        if abi >= 4:
            words.append(0 if tcp else _NET_BIND_AND_CONNECT_TCP)
        if abi >= 6:
            words.append(_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
        attributes = (ctypes.c_uint64 * len(words))(*words)
        self._fd = kernel.syscall(_CREATE_RULESET, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)

    def allow(self, path_fd: int, rights: int) -> None:
        """Allow `rights` on the file, or on all below the directory, that the O_PATH descriptor names."""
        rule = _PathBeneath(rights & self._handled_fs, path_fd)
        kernel.syscall(_ADD_RULE, self._fd, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)

    def allow_path(self, path: str, rights: int) -> None:
        """As `allow`, for a path that must exist."""
        fd = os.open(path, os.O_PATH)
        try:
            self.allow(fd, rights)
        finally:
            os.close(fd)

    def restrict_self(self) -> None:
        """Apply to this process, on top of what is applied already; needs no_new_privs."""
        kernel.syscall(_RESTRICT_SELF, self._fd, 0)
