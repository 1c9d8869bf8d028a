"""Incremental parser of server-sent events: raw network chunks in, `data` payloads out.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. Only `data` matters to model protocols; `event`, `id`, `retry`
and comments are passed over. Two liberties that real servers need: an event at the end of the stream counts even
without its blank line, and consecutive `data` lines that each start a JSON object are separate events.
"""

from __future__ import annotations

MAX_PENDING_BYTES = 8 * 1024 * 1024


class SseOverflow(Exception):
    """One event is larger than MAX_PENDING_BYTES: this is not a token stream."""


class SseParser:
    """Feed it chunks in order; lines and events may be split anywhere."""

    __slots__ = ("_at_start", "_data", "_size", "_tail")

    def __init__(self) -> None:
        self._tail: list[bytes] = []
        self._data: list[bytes] = []
        self._size = 0
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that `chunk` completes. Raises SseOverflow."""
        end = chunk.rfind(b"\n")
        if end < 0:
            self._keep(chunk)
            return []
        lines = chunk.split(b"\n")
        if self._tail:
            self._tail.append(lines[0])
            lines[0] = b"".join(self._tail)
            self._tail.clear()
        rest = lines.pop()
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        events = self._events(lines)
        self._size = sum(map(len, self._data)) if self._data else 0
        self._keep(rest)
        return events

    def flush(self) -> list[bytes]:
        """What is left when the stream has ended."""
        lines = [b"".join(self._tail), b""]
        self._tail.clear()
        return self._events(lines)

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._tail.append(piece)
            self._size += len(piece)
        if self._size > MAX_PENDING_BYTES:
            raise SseOverflow

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:])
            elif data and (not line or line == b"\r"):
                if len(data) == 1:
                    payload = data[0].strip()
                    if payload:
                        events.append(payload)
                else:
                    events.extend(_split_or_join(data))
                data.clear()
        return events


def _split_or_join(data: list[bytes]) -> list[bytes]:
    lines = [line.rstrip(b"\r").removeprefix(b" ") for line in data]
    if all(line.startswith((b"{", b"[DONE]")) for line in lines):
        return lines
    joined = b"\n".join(lines).strip()
    return [joined] if joined else []
