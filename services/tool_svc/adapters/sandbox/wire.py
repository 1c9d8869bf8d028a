"""Framing between the service and a worker: the only thing both halves of the sandbox share.

A frame is a 4-byte big-endian length, then that many bytes. The service sends one frame, the call. The worker sends a
`READY` frame, and after the call one outcome: the call's nonce, one kind byte, a body. The nonce keeps stray writes of
a tool to the descriptor from being read as an outcome. It is no secret from a tool that searches its own process: such
a tool can lie, but only about its own result, which is untrusted data anyway.
"""

import json
import os
from typing import Any

READY = b"ready"
NONCE_BYTES = 32

KIND_RESULT = b"R"  # body: the result as JSON
KIND_ERROR = b"E"  # body: JSON {"type", "message", "traceback"}
KIND_LIMIT = b"L"  # body: JSON {"limit", "message"}

_LENGTH_BYTES = 4


def frame(body: bytes) -> bytes:
    """`body` with its length in front."""
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def write_frame(fd: int, body: bytes) -> None:
    """Write a whole frame to a blocking descriptor."""
    view = memoryview(frame(body))
    while view:
        view = view[os.write(fd, view) :]


def read_frame(fd: int) -> bytes:
    """Read a whole frame from a blocking descriptor. Raises EOFError."""
    return _read_exactly(fd, int.from_bytes(_read_exactly(fd, _LENGTH_BYTES), "big"))


def dump(value: Any) -> bytes:
    """JSON as the two halves exchange it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


class FrameTooLarge(Exception):
    """A frame announces more bytes than the reader accepts."""


class FrameBuffer:
    """Assembles frames from what a non-blocking descriptor yields."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes, return the frames they complete. Raises FrameTooLarge."""
        self._data += data
        frames: list[bytes] = []
        while len(self._data) >= _LENGTH_BYTES:
            length = int.from_bytes(self._data[:_LENGTH_BYTES], "big")
            if length > self._max_bytes:
                raise FrameTooLarge
            end = _LENGTH_BYTES + length
            if len(self._data) < end:
                break
            frames.append(bytes(self._data[_LENGTH_BYTES:end]))
            del self._data[:end]
        return frames


def _read_exactly(fd: int, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        data = os.read(fd, count - len(parts))
        if not data:
            raise EOFError
        parts += data
    return bytes(parts)
