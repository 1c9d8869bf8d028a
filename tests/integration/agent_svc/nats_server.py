"""A nats-server process of one's own, which can be stopped and started again without what it held."""

import asyncio
import shutil
import socket
import subprocess
import sys
from pathlib import Path


class NatsServer:
    """With JetStream, on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Returns when it answers."""
        program = Path(sys.executable).parent / "nats-server"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._process = subprocess.Popen(
            [str(program), "-js", "-a", "127.0.0.1", "-p", str(self.port), "-sd", str(self._folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise TimeoutError("nats-server does not answer")

    def kill(self) -> None:
        """Ends it at once; what JetStream held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
