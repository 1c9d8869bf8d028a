"""Servers on stdio: each a confined process of its own, which ends with its connection and leaves nothing."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage

from tool_svc.adapters.mcp.budget import Budget
from tool_svc.adapters.mcp.connection import OnFailure
from tool_svc.adapters.mcp.settings import MIB, McpSettings
from tool_svc.adapters.sandbox import confinement, scratch
from tool_svc.interfaces.mcp import McpFailed

_BOOT = "import sys; sys.path.insert(0, {root!r}); from tool_svc.adapters.mcp.launcher import main; main({fd})"
_SERVICES_ROOT = Path(__file__).resolve().parents[3]
_SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
_SCRATCH_BYTES = 64 * MIB
_SCRATCH_CHECK_S = 1.0
_MAX_DIAGNOSIS = 300
_DIAGNOSIS_S = 1.0
_END_S = 5.0
# What the launcher's own words begin with.
_LAUNCHER = "hearth: "

Process = asyncio.subprocess.Process


class StdioProcesses:
    """Starts processes, each with a folder and, when this process is root, a user of its own."""

    def __init__(self, settings: McpSettings) -> None:
        self._settings = settings
        self._area: scratch.ScratchArea | None = None
        self._slots: deque[int] = deque(range(settings.max_connections))

    @contextlib.asynccontextmanager
    async def open(
        self, command: Sequence[str], secrets: Mapping[str, str], budget: Budget, on_failure: OnFailure
    ) -> AsyncGenerator[Any]:
        """The streams of a new process. Raises McpFailed."""
        if self._area is None:
            self._area = await asyncio.to_thread(scratch.ScratchArea, self._settings.scratch_root)
        folder = self._area.make()
        slot = self._slots.popleft()
        try:
            process = await self._start(command, secrets, folder, slot)
            try:
                async with _piped(process, folder, budget, on_failure) as streams:
                    yield streams
            finally:
                await asyncio.shield(_end(process))
        finally:
            self._slots.append(slot)
            await asyncio.to_thread(scratch.remove, folder)

    def close(self) -> None:
        """Removes what is left of folders, when no process runs any more."""
        if self._area is not None:
            self._area.close()
            self._area = None

    async def _start(self, command: Sequence[str], secrets: Mapping[str, str], folder: Path, slot: int) -> Process:
        settings = self._settings
        home = {"HOME": str(folder), "TMPDIR": str(folder), "PATH": _SEARCH_PATH, "LANG": "C.UTF-8"}
        spec = {
            "command": list(command),
            "environment": {**home, **secrets},
            "scratch": str(folder),
            "paths": [str(path) for path in settings.stdio_paths],
            "uid": settings.first_uid + slot if confinement.may_change_user() else 0,
            "memory_bytes": settings.memory_bytes,
            "parent": os.getpid(),
        }
        # In memory, not on the command line or in the environment, which others can read or which would act before
        # the process is confined.
        fd = os.memfd_create("hearth-mcp")
        try:
            os.write(fd, json.dumps(spec).encode())
            os.lseek(fd, 0, os.SEEK_SET)
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT.format(root=str(_SERVICES_ROOT), fd=fd)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={},
                pass_fds=(fd,),
                start_new_session=True,
                limit=settings.max_message,
            )
        finally:
            os.close(fd)


@contextlib.asynccontextmanager
async def _piped(process: Process, folder: Path, budget: Budget, on_failure: OnFailure) -> AsyncGenerator[Any]:
    into, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    diagnosis: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with into, read, write, outgoing, anyio.create_task_group() as group:
        group.start_soon(_diagnose, process, diagnosis)
        group.start_soon(_read, process, into, budget, diagnosis, on_failure)
        group.start_soon(_write, process, outgoing)
        group.start_soon(_watch_folder, folder, on_failure)
        try:
            yield read, write
        finally:
            group.cancel_scope.cancel()


async def _read(
    process: Process,
    into: MemoryObjectSendStream[SessionMessage | Exception],
    budget: Budget,
    diagnosis: asyncio.Future[str],
    on_failure: OnFailure,
) -> None:
    assert process.stdout is not None
    # The session learns of the end when `into` closes: not before it can be told why.
    async with into:
        try:
            while line := await process.stdout.readuntil(b"\n"):
                budget.spend(line)
                try:
                    message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError:
                    continue  # What programs print when they should not.
                await into.send(SessionMessage(message))
        except asyncio.IncompleteReadError:
            on_failure(McpFailed(await _how_it_ended(process, diagnosis), begun=True))
        except asyncio.LimitOverrunError:
            on_failure(McpFailed("a message of it is too large", begun=True))
        except McpFailed as failure:
            on_failure(failure)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass  # The session has ended.


async def _how_it_ended(process: Process, diagnosis: asyncio.Future[str]) -> str:
    """Why nothing comes any more from its standard output."""
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait([ended, diagnosis], timeout=_DIAGNOSIS_S, return_when=asyncio.ALL_COMPLETED)
    finally:
        ended.cancel()
    if diagnosis.done() and diagnosis.result():
        return f"its process ended{diagnosis.result()}"
    status = process.returncode
    if status is None:
        return "it closed its standard output"
    return f"its process ended with status {status}" if status >= 0 else f"its process was killed by {_signal(-status)}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def _write(process: Process, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # The process has ended: its other pipe tells.
        async for item in outgoing:
            text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
            process.stdin.write(text.encode() + b"\n")
            await process.stdin.drain()


async def _diagnose(process: Process, diagnosis: asyncio.Future[str]) -> None:
    """Reads what the process says on standard error, so that it can say more; keeps what the launcher said, if it did."""
    assert process.stderr is not None
    first = (await process.stderr.read(_MAX_DIAGNOSIS)).decode("utf-8", "replace")
    diagnosis.set_result(f": {first.removeprefix(_LAUNCHER).strip()}" if first.startswith(_LAUNCHER) else "")
    await _drain(process.stderr)


async def _watch_folder(folder: Path, on_failure: OnFailure) -> None:
    while True:
        await asyncio.sleep(_SCRATCH_CHECK_S)
        if await asyncio.to_thread(scratch.used_more_than, folder, _SCRATCH_BYTES):
            on_failure(McpFailed(f"its folder holds more than {_SCRATCH_BYTES // MIB} MiB", begun=True))
            return


async def _end(process: Process) -> None:
    """Kills the process and all that it started: none of them can leave its group."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    # Its end is not seen before the ends of its pipes are.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await asyncio.gather(process.wait(), _drain(process.stdout), _drain(process.stderr))


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        pass
