"""The confined process: waits for one call, runs the tool's function, writes one outcome, ends.

Everything after the call is read happens next to hostile code, so nothing here is trusted by the service.
"""

import asyncio
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import io
import json
import linecache
import os
import resource
import sys
import tempfile
import traceback
from typing import Any

from tool_svc.adapters.sandbox import binding, network, substitutes, wire
from tool_svc.adapters.sandbox.confinement import Needs

CALL_FD = 3
RESULT_FD = 4
EGRESS_FD = 5

_TOOL_FILE = "tool.py"
_MODULE = "tool"
_MAX_FRAMES = 20
_MAX_MESSAGE = 4_000


class _SourceLoader(importlib.abc.ExecutionLoader):
    """Loads the tool's module from the text of the call."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:
        return self._source

    def get_filename(self, fullname: str) -> str:
        return _TOOL_FILE


def prepare() -> None:
    """In the fork server, once: what every worker needs and no call changes."""
    reading, writing = os.pipe()
    null, log = os.dup(1), os.dup(2)
    for source, target in ((reading, 0), (writing, 1), (writing, 2)):
        os.dup2(source, target)  # Streams over pipes, as they are in a worker; those over a file would seek.
    _open_streams()
    for source, target in ((null, 0), (null, 1), (log, 2)):
        os.dup2(source, target)
    for fd in (reading, writing, null, log):
        os.close(fd)
    substitutes.install()


def serve_one_call(address_space: int, task_headroom: int, needs: Needs) -> None:
    """Announce readiness, read the call, run it, write the outcome. Returns; the caller ends the process.

    `address_space` is what the process uses already, in bytes; `task_headroom` what RLIMIT_NPROC counts already.
    """
    if needs.network:
        network.install(EGRESS_FD)
    if needs.packages:
        sys.path.append(needs.packages)
    wire.write_frame(RESULT_FD, wire.READY)
    call = json.loads(wire.read_frame(CALL_FD))
    os.close(CALL_FD)
    limits: dict[str, int] = call["limits"]
    os.environ.update(call["environment"])
    tempfile.tempdir = os.getcwd()
    _apply_limits(limits, address_space, task_headroom)
    kind, body = _outcome(call, limits["result_bytes"])
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    wire.write_frame(RESULT_FD, call["nonce"].encode() + kind + body)


def _outcome(call: dict[str, Any], max_result: int) -> tuple[bytes, bytes]:
    try:
        result = _run(call["source"], call["entry_point"], call["arguments"])
        body = _encode(result)
    except MemoryError:
        return wire.KIND_LIMIT, wire.dump({"limit": "memory", "message": "The tool ran out of memory."})
    except BaseException as error:
        return wire.KIND_ERROR, wire.dump(_describe(error))
    if len(body) > max_result:
        message = f"The result has {len(body)} bytes as JSON; at most {max_result} are allowed."
        return wire.KIND_LIMIT, wire.dump({"limit": "result_size", "message": message})
    return wire.KIND_RESULT, body


def _run(source: str, entry_point: str, arguments: dict[str, Any]) -> Any:
    loader = _SourceLoader(source)
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(_MODULE, loader, origin=_TOOL_FILE))
    sys.modules[_MODULE] = module
    # Lines for tracebacks; no modification time, so that linecache never looks for the file.
    linecache.cache[_TOOL_FILE] = (len(source), None, source.splitlines(keepends=True), _TOOL_FILE)
    loader.exec_module(module)
    function = module.__dict__[entry_point]
    positional, named = binding.bind(function, arguments)
    result = function(*positional, **named)
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    return result


def _encode(result: Any) -> bytes:
    try:
        text = json.dumps(result, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=binding.to_plain)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the result cannot be written as JSON: {error}") from None


def _describe(error: BaseException) -> dict[str, str]:
    try:
        kind = type(error).__name__
        message = str(error)[:_MAX_MESSAGE]
    except BaseException:
        return {"type": "Exception", "message": "The error could not be described.", "traceback": ""}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _TOOL_FILE]
    lines: list[str] = []
    if frames:
        lines = ["Traceback (most recent call last):\n"]
        if len(frames) > _MAX_FRAMES:
            lines.append(f"  … {len(frames) - _MAX_FRAMES} more calls\n")
        lines += traceback.format_list(frames[-_MAX_FRAMES:])
    if isinstance(error, SyntaxError):
        lines += traceback.format_exception_only(error)
    else:
        lines.append(f"{kind}: {message}\n" if message else f"{kind}\n")
    return {"type": kind, "message": message, "traceback": "".join(lines)}


def _open_streams() -> None:
    """Text streams over descriptors 0 to 2, which are the captured ones in a worker."""
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = _writer(1)
    sys.stderr = _writer(2)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def _writer(fd: int) -> io.TextIOWrapper:
    raw = io.BufferedWriter(io.FileIO(fd, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _apply_limits(limits: dict[str, int], address_space: int, task_headroom: int) -> None:
    for which, soft, hard in (
        (resource.RLIMIT_AS, address_space + limits["memory_bytes"], None),
        # The hard limit kills a tool that ignores the signal of the soft one.
        (resource.RLIMIT_CPU, limits["cpu_s"], limits["cpu_s"] + 1),
        (resource.RLIMIT_FSIZE, limits["file_bytes"], None),
        (resource.RLIMIT_NOFILE, limits["open_files"], None),
        (resource.RLIMIT_NPROC, task_headroom + limits["threads"], None),
    ):
        ceiling = resource.getrlimit(which)[1]
        values = [soft, soft if hard is None else hard]
        if ceiling != resource.RLIM_INFINITY:
            values = [min(value, ceiling) for value in values]
        resource.setrlimit(which, (values[0], values[1]))
