"""Stand-ins inside the sandbox for functions whose system call cannot be allowed by path.

Landlock does not guard modes and times, so the filter refuses chmod and utime by path: a worker that shares its user
with the service could change the service's files. By descriptor they are safe, because opening is guarded.
"""

import os
from typing import Any


def install() -> None:
    """Make os.chmod and os.utime go through a descriptor, so that shutil.copy, zipfile and the like work."""
    by_descriptor_chmod = os.fchmod
    by_descriptor_utime = os.utime

    def chmod(path: Any, mode: int, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
        fd = _open(path, dir_fd, follow_symlinks)
        try:
            by_descriptor_chmod(fd, mode)
        finally:
            os.close(fd)

    def utime(
        path: Any,
        times: tuple[float, float] | None = None,
        *,
        ns: tuple[int, int] | None = None,
        dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        fd = _open(path, dir_fd, follow_symlinks)
        try:
            if ns is not None:
                by_descriptor_utime(fd, ns=ns)
            else:
                by_descriptor_utime(fd, times)
        finally:
            os.close(fd)

    os.chmod = chmod
    os.utime = utime


def _open(path: Any, dir_fd: int | None, follow_symlinks: bool) -> int:
    if isinstance(path, int):
        return os.dup(path)
    return os.open(path, os.O_RDONLY | (0 if follow_symlinks else os.O_NOFOLLOW), dir_fd=dir_fd)
