"""memory_svc alone, for benchmarks of memory: a real process on a real PostgreSQL, and callers of any organization."""

import contextlib
import tempfile
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path

import grpc

import memory_svc
from chassis.channels import open_channel
from deploy.local import Stack
from tests.integration.memory_svc.service import MemoryProcess, Organization
from tests.support.databases import Databases
from tests.support.issuer import Issuer

MIGRATIONS = Path(str(memory_svc.__file__)).parent / "migrations"


@dataclass
class MemoryStack:
    """A running memory_svc and who can call it."""

    process: MemoryProcess
    issuer: Issuer

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncGenerator[grpc.aio.Channel]:
        """A channel to the process."""
        async with open_channel(self.process.address) as opened:
            yield opened

    def organization(self, channel: grpc.aio.Channel) -> Organization:
        """A fresh organization with an agent."""
        return Organization(channel, self.issuer)


@contextlib.contextmanager
def memory_stack() -> Generator[MemoryStack]:
    """Starts PostgreSQL and memory_svc with its default settings; stops both."""
    with Stack(only=("postgres",)) as postgres, tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        databases = Databases(postgres.superuser_url())
        issuer = Issuer()
        process = MemoryProcess(databases.fresh(MIGRATIONS), issuer, Path(folder))
        process.start()
        try:
            yield MemoryStack(process, issuer)
        finally:
            process.stop()
            issuer.stop()
