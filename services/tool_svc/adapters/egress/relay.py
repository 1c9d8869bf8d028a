"""Bytes from one socket to another and back, counted."""

import asyncio
import socket

_CHUNK = 65_536


class OutOfBudget(Exception):
    """The call has moved as many bytes as it may."""


class Budget:
    """How many bytes a call may still move, both ways and over all its connections together."""

    def __init__(self, total: int) -> None:
        self.left = total

    def take(self, count: int) -> None:
        """Raises OutOfBudget."""
        self.left -= count
        if self.left < 0:
            raise OutOfBudget


async def relay(one: socket.socket, other: socket.socket, budget: Budget) -> None:
    """Copy until both sides have ended. Raises OSError when one breaks, OutOfBudget."""
    ways = [asyncio.ensure_future(_copy(*pair, budget)) for pair in ((one, other), (other, one))]
    try:
        await asyncio.gather(*ways)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _copy(source: socket.socket, target: socket.socket, budget: Budget) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        budget.take(len(data))
        await loop.sock_sendall(target, data)
    target.shutdown(socket.SHUT_WR)
