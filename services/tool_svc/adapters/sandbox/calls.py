"""One call on one worker: writes it, gathers output and outcome, keeps the limits the kernel does not keep."""

import asyncio
import codecs
import hmac
import json
import os
import secrets
import signal
from collections.abc import Callable
from typing import Any

from tool_svc.adapters.sandbox import wire
from tool_svc.adapters.sandbox.fork_server import Worker, WorkerExit
from tool_svc.domain.execution import (
    Failed,
    Limit,
    LimitExceeded,
    Outcome,
    OutputChunk,
    OutputStream,
    SandboxCall,
    SandboxEvent,
    Succeeded,
)

_CHUNK = 65_536
# How much output is read and dropped after the limit, so that a chatty tool still ends well.
_DISCARD_BYTES = 64 * 1024 * 1024
_ERROR_BYTES = 256 * 1024


class RunningCall:
    """Follows one call; `events` ends with exactly one outcome. `kill` ends the worker at once."""

    def __init__(self, call: SandboxCall, worker: Worker, kill: Callable[[], None]) -> None:
        self.call = call
        self.worker = worker
        self.events: asyncio.Queue[SandboxEvent] = asyncio.Queue()
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._nonce = secrets.token_hex(wire.NONCE_BYTES // 2).encode()
        self._frames = wire.FrameBuffer(call.limits.result_bytes + _ERROR_BYTES)
        self._outputs = {
            worker.stdout_fd: _Output(OutputStream.STDOUT),
            worker.stderr_fd: _Output(OutputStream.STDERR),
        }
        self._output_left = call.limits.output_bytes
        self._discard_left = _DISCARD_BYTES
        self._unwritten = memoryview(b"")
        self._timer: asyncio.TimerHandle | None = None
        self._done = False

    def start(self) -> None:
        """Hand the call to the worker and follow it."""
        limits = self.call.limits
        body = {
            "nonce": self._nonce.decode(),
            "source": self.call.source,
            "entry_point": self.call.entry_point,
            "arguments": dict(self.call.arguments),
            "environment": dict(self.call.environment),
            "limits": {
                "memory_bytes": limits.memory_bytes,
                "cpu_s": limits.cpu_s,
                "file_bytes": limits.file_bytes,
                "open_files": limits.open_files,
                "threads": limits.threads,
                "result_bytes": limits.result_bytes,
            },
        }
        self._unwritten = memoryview(wire.frame(wire.dump(body)))
        self._timer = self._loop.call_later(limits.wall_time_s, self._on_timeout)
        self._loop.add_reader(self.worker.result_fd, self._on_result)
        for fd in self._outputs:
            self._loop.add_reader(fd, self._on_output, fd)
        self.worker.exited.add_done_callback(self._on_exit)
        self._write()

    def end(self, outcome: Outcome) -> None:
        """Finish with this outcome, unless the call has one already, and kill the worker."""
        if self._done:
            return
        self._done = True
        if self._timer is not None:
            self._timer.cancel()
        self.worker.exited.remove_done_callback(self._on_exit)
        for fd in self._outputs:
            self._drain(fd)
        for fd in (self.worker.result_fd, self.worker.stdout_fd, self.worker.stderr_fd):
            self._loop.remove_reader(fd)
        self._loop.remove_writer(self.worker.call_fd)
        self._kill()
        self.events.put_nowait(outcome)

    def _write(self) -> None:
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[os.write(self.worker.call_fd, self._unwritten) :]
        except BlockingIOError:
            self._loop.add_writer(self.worker.call_fd, self._write)
            return
        except OSError:
            pass  # The worker ended; its exit tells why.
        self._loop.remove_writer(self.worker.call_fd)

    def _on_result(self) -> None:
        while not self._done:
            try:
                data = os.read(self.worker.result_fd, _CHUNK)
                frames = self._frames.feed(data)
            except BlockingIOError:
                return
            except wire.FrameTooLarge:
                self.end(_forged())
                return
            if frames:
                self.end(self._outcome(frames[0]))
            elif not data:
                self._loop.remove_reader(self.worker.result_fd)
                return

    def _outcome(self, frame: bytes) -> Outcome:
        nonce, kind, body = frame[: wire.NONCE_BYTES], frame[wire.NONCE_BYTES : wire.NONCE_BYTES + 1], frame[33:]
        if not hmac.compare_digest(nonce, self._nonce):
            return _forged()
        try:
            text = body.decode("utf-8", "strict" if kind == wire.KIND_RESULT else "replace")
            value: Any = json.loads(text, parse_constant=_refuse_constant)
            if kind == wire.KIND_RESULT:
                return self._succeeded(text)
            if kind == wire.KIND_ERROR:
                return Failed(str(value["type"]), str(value["message"]), str(value["traceback"]))
            return LimitExceeded(Limit(value["limit"]), str(value["message"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return _forged()

    def _succeeded(self, text: str) -> Outcome:
        if len(text) > self.call.limits.result_bytes:
            return _forged()
        return Succeeded(text)

    def _on_output(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(fd)
        self._take_output(fd, data)

    def _take_output(self, fd: int, data: bytes) -> None:
        output = self._outputs[fd]
        kept = data[: self._output_left]
        self._output_left -= len(kept)
        text = output.decode(kept, final=not data)
        if text:
            self.events.put_nowait(OutputChunk(output.stream, text))
        dropped = len(data) - len(kept)
        if dropped == 0:
            return
        if self._discard_left == _DISCARD_BYTES:
            note = f"\n[output truncated after {self.call.limits.output_bytes} bytes]\n"
            self.events.put_nowait(OutputChunk(output.stream, note, truncated=True))
        self._discard_left -= dropped
        if self._discard_left <= 0:
            message = f"The tool printed more than {_DISCARD_BYTES} bytes after its output was truncated."
            self.end(LimitExceeded(Limit.OUTPUT, message))

    def _drain(self, fd: int) -> None:
        """Take what the tool wrote before its outcome: it is in the pipe already."""
        for _ in range(32):
            try:
                data = os.read(fd, _CHUNK)
            except OSError:
                data = b""
            self._take_output(fd, data)
            if not data:
                return

    def _on_timeout(self) -> None:
        seconds = self.call.limits.wall_time_s
        self.end(LimitExceeded(Limit.WALL_TIME, f"The tool did not finish within {seconds:g} s."))

    def _on_exit(self, exited: asyncio.Future[WorkerExit]) -> None:
        self._on_result()  # An outcome may have been written just before the end.
        self.end(self._explain(exited.result()))

    def _explain(self, ended: WorkerExit) -> Outcome:
        limits = self.call.limits
        if ended.status is None:
            return Failed("SandboxLost", "The sandbox was lost while the tool ran. Its effect is unknown.")
        if ended.status == -signal.SIGXCPU or ended.cpu_s >= limits.cpu_s:
            return LimitExceeded(Limit.CPU, f"The tool used more than {limits.cpu_s} s of processor time.")
        if ended.status == -signal.SIGKILL:
            message = "The tool's process was killed by the system, most likely because memory ran out."
            return LimitExceeded(Limit.MEMORY, message)
        if ended.status < 0:
            name = signal.Signals(-ended.status).name
            return Failed("ToolCrashed", f"The tool's process was ended by {name}.")
        return Failed("ToolExited", f"The tool's process ended (exit code {ended.status}) without a result.")


class _Output:
    """Decodes one stream; a character cut by a chunk's end waits for its rest."""

    def __init__(self, stream: OutputStream) -> None:
        self.stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, data: bytes, *, final: bool) -> str:
        return self._decoder.decode(data, final)


def _forged() -> Outcome:
    message = "The tool wrote to the sandbox's own channel; its result cannot be trusted and was dropped."
    return Failed("SandboxProtocolError", message)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
