"""How much a server may send: a flood ends its connection."""

from tool_svc.interfaces.mcp import McpFailed


class Budget:
    """Bytes and lines that may still come, until a call begins and `renew`s it."""

    def __init__(self, max_bytes: int, max_lines: int) -> None:
        self._max = (max_bytes, max_lines)
        self._bytes, self._lines = self._max

    def renew(self) -> None:
        """A call begins."""
        self._bytes, self._lines = self._max

    def spend(self, data: bytes) -> None:
        """Counts what came. Raises McpFailed when it is too much."""
        self._bytes -= len(data)
        self._lines -= data.count(b"\n")
        if self._bytes < 0:
            raise McpFailed(f"it sent more than {self._max[0]} bytes for one call", begun=True)
        if self._lines < 0:
            raise McpFailed(f"it sent more than {self._max[1]} lines for one call", begun=True)
