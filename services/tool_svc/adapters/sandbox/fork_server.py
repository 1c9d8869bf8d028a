"""The service's side of the fork server: starts it, asks it for workers, hears of their ends."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tool_svc.adapters.sandbox import wire
from tool_svc.interfaces.sandbox import SandboxUnavailable

# Isolated, without site: the fork server and the tools see the standard library and nothing that is installed.
_BOOT = (
    "import sys; sys.path.insert(0, {root!r}); from tool_svc.adapters.sandbox.zygote import main; "
    "main({fd}, {abi}, {uid}, {scratch!r}, {packages!r})"
)
_SERVICES_ROOT = Path(__file__).resolve().parents[3]
_STOP_TIMEOUT_S = 5.0
_READY_FRAME_MAX = 64


@dataclass(frozen=True)
class WorkerExit:
    """How a worker ended: exit code, negative for a signal; None when the fork server itself was lost."""

    status: int | None
    cpu_s: float = 0.0
    max_rss_bytes: int = 0


class Worker:
    """One confined process: its descriptors in this process, and the moments it became ready and ended."""

    def __init__(self, worker_id: int, slot: int, scratch: Path, fds: tuple[int, int, int, int]) -> None:
        self.id = worker_id
        self.slot = slot
        self.scratch = scratch
        self.call_fd, self.result_fd, self.stdout_fd, self.stderr_fd = fds
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[WorkerExit] = loop.create_future()
        self._loop = loop
        self._greeting = wire.FrameBuffer(_READY_FRAME_MAX)
        for fd in fds:
            os.set_blocking(fd, False)
        loop.add_reader(self.result_fd, self._on_greeting)

    def _on_greeting(self) -> None:
        try:
            data = os.read(self.result_fd, _READY_FRAME_MAX)
            frames = self._greeting.feed(data)
        except (OSError, wire.FrameTooLarge):
            data, frames = b"", []
        if data and not frames:
            return
        self._loop.remove_reader(self.result_fd)
        if self.ready.done():
            return
        if frames == [wire.READY]:
            self.ready.set_result(None)
        else:
            self.ready.set_exception(SandboxUnavailable(f"A worker did not start: {self._diagnosis()}"))
            self.ready.exception()  # Seen here: who waits for it sees it too, and nobody may be waiting.

    def _diagnosis(self) -> str:
        try:
            text = os.read(self.stderr_fd, 2_000).decode("utf-8", "replace").strip()
        except OSError:
            text = ""
        return text or "it ended without a word"

    def close(self) -> None:
        """Close this process's ends of the pipes."""
        for fd in (self.call_fd, self.result_fd, self.stdout_fd, self.stderr_fd):
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            os.close(fd)
        if not self.ready.done():
            self.ready.cancel()


class ForkServer:
    """The process that forks workers. `on_lost` is called once if it ends without having been asked to."""

    def __init__(
        self,
        landlock_abi: int,
        first_uid: int,
        scratch_root: Path,
        packages_root: Path | None,
        on_lost: Callable[[], None],
    ) -> None:
        self._landlock_abi = landlock_abi
        self._first_uid = first_uid
        self._scratch_root = scratch_root
        self._packages_root = packages_root
        self._on_lost = on_lost
        self._workers: dict[int, Worker] = {}
        self._next_id = 1
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 when it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start the process. It is ready when a worker is."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot = _BOOT.format(
            root=str(_SERVICES_ROOT),
            fd=theirs.fileno(),
            abi=self._landlock_abi,
            uid=self._first_uid,
            scratch=str(self._scratch_root),
            packages=str(self._packages_root or ""),
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", boot],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # One heap arena: each further one reserves address space, which the memory limit counts.
                env={"MALLOC_ARENA_MAX": "1"},
                start_new_session=True,
            )
        ours.setblocking(False)
        self._control = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_event)

    def spawn(
        self, slot: int, scratch: Path, packages: Path | None = None, egress: socket.socket | None = None
    ) -> Worker:
        """Ask for a worker, which may import from `packages` and reach what is behind `egress`. Raises SandboxUnavailable."""
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(4)]
        theirs = [pipes[0][0], *(pipe[1] for pipe in pipes[1:])]
        ours = (pipes[0][1], pipes[1][0], pipes[2][0], pipes[3][0])
        worker = Worker(self._next_id, slot, scratch, ours)
        self._next_id += 1
        self._workers[worker.id] = worker
        try:
            message = {
                "op": "spawn",
                "id": worker.id,
                "scratch": str(scratch),
                "slot": slot,
                "packages": str(packages or ""),
            }
            self._send(message, [*theirs, *([] if egress is None else [egress.fileno()])])
        except SandboxUnavailable:
            del self._workers[worker.id]
            worker.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return worker

    def kill(self, worker: Worker) -> None:
        """SIGKILL a worker. The fork server sends the signal: it alone knows that the pid is still that process."""
        if worker.id in self._workers:
            try:
                self._send({"op": "kill", "id": worker.id})
            except SandboxUnavailable:
                return  # Gone, and its workers with it.

    async def stop(self) -> None:
        """End the process and with it all workers."""
        process, self._process = self._process, None
        self._close_control()
        self._lose_workers()
        if process is None:
            return
        try:
            await asyncio.to_thread(process.wait, _STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def _send(self, message: Mapping[str, object], fds: list[int] | None = None) -> None:
        if self._control is None:
            raise SandboxUnavailable("The sandbox's fork server does not run.")
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], fds or [])
        except OSError as error:
            raise SandboxUnavailable(f"The sandbox's fork server does not answer: {error}") from error

    def _on_event(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        event = json.loads(data)
        worker = self._workers.pop(event["id"])
        worker.exited.set_result(WorkerExit(event["status"], event["cpu_s"], event["max_rss_bytes"]))

    def _lost(self) -> None:
        process, self._process = self._process, None
        self._close_control()
        self._lose_workers()
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            self._on_lost()

    def _lose_workers(self) -> None:
        workers, self._workers = self._workers, {}
        for worker in workers.values():
            worker.exited.set_result(WorkerExit(None))

    def _close_control(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
