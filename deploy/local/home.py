"""The folder of one stack: state, logs, credentials, and the record by which other processes find its runner."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.processes import alive

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Home:
    """Paths below HEARTH_HOME."""

    root: Path

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Home":
        """HEARTH_HOME, or `.hearth` in the project."""
        return cls(Path(environment.get("HEARTH_HOME") or PROJECT / ".hearth").absolute())

    @property
    def state(self) -> Path:
        """What the components keep. Others may pass through it: PostgreSQL can run as another user."""
        return self.root / "state"

    @property
    def logs(self) -> Path:
        """One file per component, and the runner's."""
        return self.root / "logs"

    @property
    def credentials(self) -> Path:
        """Keys and passwords, for the owner's eyes only."""
        return self.root / "credentials"

    @property
    def env_file(self) -> Path:
        """What a shell sources."""
        return self.root / "env"

    @property
    def record_file(self) -> Path:
        """What the runner says about itself and its processes."""
        return self.state / "runner.json"

    def create(self) -> None:
        """Makes the folders. Raises PermissionError when the home belongs to another user: root too would leave files there that its owner cannot read."""
        if self.root.exists() and self.root.stat().st_uid != os.geteuid():
            raise PermissionError(f"{self.root} is owned by user id {self.root.stat().st_uid}, this is {os.geteuid()}")
        for folder, mode in ((self.root, 0o711), (self.state, 0o711), (self.logs, 0o700), (self.credentials, 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)

    def lock(self) -> int | None:
        """An open file descriptor that marks this process as the runner, or None: another one is."""
        descriptor = os.open(self.state / "runner.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def read_record(self) -> dict[str, Any] | None:
        """The last record of a runner, or None."""
        try:
            return json.loads(self.record_file.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def running_record(self) -> dict[str, Any] | None:
        """The record of a runner that lives, or None."""
        record = self.read_record()
        return record if record is not None and alive(record["pid"], record["started"]) else None

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replaces the record in one step."""
        write_private(self.record_file, json.dumps(record, indent=1))


def write_private(path: Path, text: str) -> None:
    """Writes a file of mode 0600 so that a reader sees the old one or the new one, whole."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)
