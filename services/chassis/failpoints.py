"""Places where a process can be made to fail on purpose, for tests of what happens then.

HEARTH_FAILPOINTS names a folder, and is refused outside of development. A file `<point>` in it is a fault that waits: the first
process that passes the point takes it, by renaming it to `<point>.<pid>`, and does what it says:

  kill          ends the process at once, as SIGKILL does
  stop          stops it as SIGSTOP does, until somebody sends SIGCONT
  sleep 0.5     waits there for so many seconds, while everything else goes on

Without the folder, passing a point costs a tenth of a microsecond.
"""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path

_log = logging.getLogger(__name__)

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Failpoints:
    """The faults that wait in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def passing(self, point: str) -> None:
        """Does what waits at the point, once, if anything does."""
        mine = self._folder / f"{point}.{os.getpid()}"
        try:
            os.rename(self._folder / point, mine)
        except FileNotFoundError:
            return
        action, _, seconds = mine.read_text().strip().partition(" ")
        _log.warning("failpoint", extra={"point": point, "action": action})
        if action in _SIGNALS:
            os.kill(os.getpid(), _SIGNALS[action])
        elif action == "sleep":
            await asyncio.sleep(float(seconds))
        else:
            _log.error("a failpoint does not know this action", extra={"action": action})


_armed: Failpoints | None = None


def arm(folder: str) -> None:
    """From now on faults are taken from this folder; empty: from none."""
    global _armed
    _armed = Failpoints(Path(folder)) if folder else None


async def failpoint(name: str) -> None:
    """A named place in the code."""
    if _armed is not None:
        await _armed.passing(name)


def plant(folder: Path, point: str, action: str) -> None:
    """Lets a fault wait at a point: the next process that passes has it. One that waits there already is replaced."""
    unfinished = folder / f".{point}"
    unfinished.write_text(action)
    unfinished.rename(folder / point)


def taken(folder: Path, point: str) -> list[int]:
    """The processes that took a fault at a point."""
    found: list[int] = []
    for path in folder.glob(f"{point}.*"):
        with contextlib.suppress(ValueError):
            found.append(int(path.name.removeprefix(f"{point}.")))
    return found
