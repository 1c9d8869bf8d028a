"""Scratch folders of workers: made, measured and removed by the service, filled by hostile code.

Nothing here follows a symbolic link, recurses, or builds a path from names below the folder: a tool may have nested
folders deeper than any path or stack allows. A folder is touched by `remove` only after its worker has ended.
"""

import errno
import fcntl
import os
import secrets
import shutil
import tempfile
from pathlib import Path

_LOCK = "lock"
_PREFIX = "pool-"
_MAX_DEPTH = 32
_MAX_ENTRIES = 20_000


class ScratchArea:
    """The folder of one pool below a root that several pools may share; leftovers of dead pools are removed."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        if os.geteuid() == 0 and not others_may_pass(root):
            # Workers run as other users, who must be able to name their files by absolute path.
            root = Path(tempfile.gettempdir()) / "hearth-sandbox"
            root.mkdir(mode=0o711, exist_ok=True)
            if root.is_symlink() or root.stat().st_uid != os.geteuid():
                raise OSError(f"{root} belongs to somebody else")
        _remove_dead_pools(root)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        making = root / f"new-{name}"
        making.mkdir()
        making.chmod(0o711)
        self._lock = os.open(making / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # Locked before it can be taken for the leftover of a dead pool.
        self.path = making.rename(root / f"{_PREFIX}{name}")
        self._count = 0

    def make(self) -> Path:
        """A new, empty folder of mode 0700."""
        self._count += 1
        path = self.path / f"call-{self._count}"
        path.mkdir(mode=0o700)
        return path

    def close(self) -> None:
        """Remove all."""
        remove(self.path)
        os.close(self._lock)


def used_more_than(path: Path, limit: int) -> bool:
    """Whether a folder holds more than `limit` bytes, or is too large, deep or closed to tell: nothing honest is."""
    total = 0
    entries = 0
    pending = [(str(path), 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            found = list(_take(folder, _MAX_ENTRIES - entries))
        except FileNotFoundError:
            continue
        except OSError:
            return True
        entries += len(found)
        if entries >= _MAX_ENTRIES or depth > _MAX_DEPTH:
            return True
        for entry in found:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            total += status.st_blocks * 512
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, depth + 1))
        if total > limit:
            return True
    return False


def total_bytes(path: Path) -> int:
    """How much a folder holds."""
    found = [path, *path.rglob("*")]
    return sum(entry.lstat().st_blocks * 512 for entry in found)


def _take(folder: str, count: int) -> list[os.DirEntry[str]]:
    taken: list[os.DirEntry[str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            taken.append(entry)
            if len(taken) >= count:
                break
    return taken


def remove_empty(path: Path) -> bool:
    """Remove a folder that a tool left nothing in, as most do; False when there is something."""
    try:
        path.rmdir()
    except OSError:
        return False
    return True


def remove(path: Path) -> None:
    """Remove a folder whatever a tool left in it. Folders are lifted to the top level before they are emptied."""
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        lifted = 0
        while names := os.listdir(top):
            for name in names:
                lifted = _remove_entry(top, name, lifted)
    finally:
        os.close(top)
    path.rmdir()


def _remove_entry(top: int, name: str, lifted: int) -> int:
    """Remove a file or empty folder; lift a full folder's subfolders to the top and remove the rest."""
    try:
        os.unlink(name, dir_fd=top)
        return lifted
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    folder = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        # A tool may have closed its own folder to everybody; a descriptor's path has no links to follow.
        os.chmod(f"/proc/self/fd/{folder}", 0o700)
    finally:
        os.close(folder)
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        for child in os.listdir(folder):
            try:
                os.unlink(child, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.EISDIR, errno.EPERM):
                    raise
                lifted += 1
                _lift(top, folder, child, lifted)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)
    return lifted


def _lift(top: int, folder: int, child: str, number: int) -> None:
    child_fd = os.open(child, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.chmod(f"/proc/self/fd/{child_fd}", 0o700)  # Renaming a folder needs write access to it.
    finally:
        os.close(child_fd)
    os.rename(child, f".lifted-{number}-{secrets.token_hex(4)}", src_dir_fd=folder, dst_dir_fd=top)


def others_may_pass(path: Path) -> bool:
    """Whether any user may go through a folder, and through all above it."""
    resolved = path.resolve()
    return all(folder.stat().st_mode & 0o001 for folder in (resolved, *resolved.parents))


def _remove_dead_pools(root: Path) -> None:
    for pool in root.glob(f"{_PREFIX}*"):
        try:
            lock = os.open(pool / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            shutil.rmtree(pool, ignore_errors=True)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # Its pool lives.
        else:
            remove(pool)
        finally:
            os.close(lock)
