"""What the supervisor needs to know of one component, and how it finds out that it is ready."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_PROBE_TIMEOUT_S = 2.0
_SERVING = b"\x08\x01"


@dataclass(frozen=True)
class Component:
    """One process that belongs to the stack. Everything about it is data; nothing runs until the supervisor starts it."""

    name: str
    command: tuple[str, ...]
    # Where it listens, "host:port".
    address: str
    # Answers whether the running process can do its work; an OSError means not yet.
    ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    # Components that must be ready before this one starts.
    needs: tuple[str, ...] = ()
    # Stopped from the highest tier down; within a tier together.
    tier: int = 0
    # Runs before each start, as initdb or migrations do. Must be cheap when there is nothing to do.
    prepare: Callable[[], Awaitable[None]] | None = None
    # Runs after each start, once the process answers and before others may use it.
    finish: Callable[[], Awaitable[None]] | None = None
    stop_signal: int = signal.SIGTERM
    # Generous: on a busy machine a first start with its migrations is slow, and slow is not broken.
    start_timeout_s: float = 150.0
    stop_timeout_s: float = 15.0
    folder: Path = Path("/")
    # Runs as this user and group; None: as the runner.
    user: tuple[int, int] | None = None


async def http_get(address: str, path: str) -> tuple[int, bytes]:
    """Status and body of an HTTP GET. Raises OSError when nothing answers."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(_PROBE_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    words = head.split(None, 2)
    if len(words) < 2:
        raise ConnectionResetError(f"no HTTP answer from {address}")
    return int(words[1]), body


def http_ok(address: str, path: str) -> Callable[[], Awaitable[bool]]:
    """Ready when GET `path` answers 200."""

    async def probe() -> bool:
        status, _ = await http_get(address, path)
        return status == 200

    return probe


def grpc_serving(address: str) -> Callable[[], Awaitable[bool]]:
    """Ready when grpc.health.v1.Health/Check answers SERVING."""

    async def probe() -> bool:
        # Imported here: the commands that never probe stay quick, and messages this small need no generated code.
        import grpc

        async with grpc.aio.insecure_channel(address) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            try:
                return bytes(await check(b"", timeout=_PROBE_TIMEOUT_S)) == _SERVING
            except grpc.aio.AioRpcError:
                return False

    return probe
