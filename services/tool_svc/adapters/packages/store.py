"""Environments on disk, one folder for each set of requirements, installed at first use and removed when long unused.

Each has a lock file that stays: who installs or removes holds it alone, who uses holds it with others. So several
processes may share a root, and of many first uses one installs.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tool_svc.adapters.packages import requirements as rules
from tool_svc.adapters.packages.pip import UNFINISHED, Pip
from tool_svc.adapters.sandbox import scratch
from tool_svc.interfaces.packages import PackagesNotAllowed, PackagesUnavailable

_LOG = logging.getLogger(__name__)
_AT_ONCE = 2
_FAILURE_AGE_S = 60.0
_UNFINISHED_AGE_S = 3600.0
_ENVIRONMENT = "env-"
_LOCK = ".lock"
_RECORD = ".json"


class NoPackages:
    """A PackageStore where the operator allows none."""

    def check(self, requirements: Sequence[str]) -> None:
        if requirements:
            raise PackagesNotAllowed

    def environment(self, requirements: Sequence[str]) -> AbstractAsyncContextManager[Path | None]:
        self.check(requirements)
        return contextlib.nullcontext()

    async def close(self) -> None:
        """Nothing to wait for."""


class PackageFolders:
    """A PackageStore below one root, which everybody may pass; `max_bytes` is kept by removing what was least lately used."""

    def __init__(self, root: Path, pip: Pip, max_bytes: int) -> None:
        root.mkdir(mode=0o755, parents=True, exist_ok=True)
        if root.is_symlink() or root.stat().st_uid != os.geteuid() or root.stat().st_mode & 0o022:
            raise ValueError(f"HEARTH_PACKAGES_DIR: others can put packages into {root}")
        if os.geteuid() == 0 and not scratch.others_may_pass(root):
            raise ValueError(f"HEARTH_PACKAGES_DIR: tools run as other users, who cannot pass {root}")
        self._root = root
        self._pip = pip
        self._max_bytes = max_bytes
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="packages")
        self._turns: dict[str, asyncio.Lock] = {}
        self._failures: dict[str, tuple[float, str]] = {}
        for unfinished in root.glob(f"{UNFINISHED}*"):
            if time.time() - unfinished.stat().st_mtime > _UNFINISHED_AGE_S:
                scratch.remove(unfinished)  # Of a process that was killed; others may be at work here.

    def check(self, requirements: Sequence[str]) -> None:
        rules.check(requirements)

    @asynccontextmanager
    async def environment(self, requirements: Sequence[str]) -> AsyncGenerator[Path | None]:
        if not requirements:
            yield None
            return
        key = rules.key_of(requirements)
        lock = self._hold_ready(key)
        if lock is None:
            lock = await self._first(key, requirements)
        try:
            yield self._path(key)
        finally:
            os.close(lock)

    async def close(self) -> None:
        """Wait for installations that run."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _first(self, key: str, requirements: Sequence[str]) -> int:
        """Installs unless somebody else just did; a descriptor of the shared lock. Raises PackagesUnavailable."""
        async with self._turns.setdefault(key, asyncio.Lock()):
            failed = self._failures.get(key)
            if failed is not None and time.monotonic() - failed[0] < _FAILURE_AGE_S:
                raise PackagesUnavailable(failed[1])
            work = asyncio.get_running_loop().run_in_executor(self._threads, self._hold, key, requirements)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                work.add_done_callback(_close_result)  # The installation goes on: the next call has it.
                raise
            except PackagesUnavailable as error:
                self._failures[key] = (time.monotonic(), str(error))
                raise

    def _hold_ready(self, key: str) -> int | None:
        """The shared lock of an environment that is there; None when it is not, or is being made or removed."""
        try:
            lock = os.open(self._root / f"{key}{_LOCK}", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        if not self._path(key).is_dir():
            os.close(lock)
            return None
        os.utime(lock)
        return lock

    def _hold(self, key: str, requirements: Sequence[str]) -> int:
        """In a thread: as `_hold_ready`, but installs what is not there."""
        while (ready := self._hold_ready(key)) is None:
            lock = os.open(self._root / f"{key}{_LOCK}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not self._path(key).is_dir():
                    self._install(key, requirements)
            finally:
                os.close(lock)
        return ready

    def _install(self, key: str, requirements: Sequence[str]) -> None:
        """What was resolved once is installed again by its hashes, whatever the index has since."""
        record = self._root / f"{key}{_RECORD}"
        known: list[str] = json.loads(record.read_bytes())["installed"] if record.exists() else []
        path = self._path(key)
        installed = self._pip.install(known or requirements, path)
        content = {"requirements": list(requirements), "installed": installed, "bytes": scratch.total_bytes(path)}
        new = record.with_suffix(f".{secrets.token_hex(4)}")
        new.write_text(json.dumps(content, indent=2))
        new.rename(record)
        _LOG.info("packages installed for tools", extra={"packages": installed, "environment": key})
        self._collect(key)

    def _collect(self, kept: str) -> None:
        """Remove the least lately used environments that nobody uses, until the rest fits."""
        found: list[tuple[float, str, int]] = []
        for path in self._root.glob(f"{_ENVIRONMENT}*"):
            key = path.name.removeprefix(_ENVIRONMENT)
            with contextlib.suppress(OSError, ValueError, KeyError):
                size = int(json.loads((self._root / f"{key}{_RECORD}").read_bytes())["bytes"])
                found.append(((self._root / f"{key}{_LOCK}").stat().st_mtime, key, size))
        total = sum(size for _, _, size in found)
        for _, key, size in sorted(found):
            if total <= self._max_bytes:
                return
            if key != kept and self._remove(key):
                total -= size

    def _remove(self, key: str) -> bool:
        lock = os.open(self._root / f"{key}{_LOCK}", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False  # In use.
        else:
            scratch.remove(self._path(key))
            return True
        finally:
            os.close(lock)

    def _path(self, key: str) -> Path:
        return self._root / f"{_ENVIRONMENT}{key}"


def _close_result(work: "asyncio.Future[int]") -> None:
    if not work.cancelled() and work.exception() is None:
        os.close(work.result())
