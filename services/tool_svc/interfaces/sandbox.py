"""Where a tool's code runs: somewhere it can do no harm."""

from collections.abc import AsyncGenerator
from typing import Protocol

from tool_svc.domain.execution import SandboxCall, SandboxEvent


class SandboxUnavailable(Exception):
    """The sandbox cannot confine here, or is not running. The message says why, for operators."""


class SandboxBusy(Exception):
    """As many calls as allowed are running and waiting; try again after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"The sandbox is busy; retry after {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class Sandbox(Protocol):
    """Runs each call in a fresh, confined place that sees nothing of the service, of other calls or of the network."""

    def execute(self, call: SandboxCall) -> AsyncGenerator[SandboxEvent]:
        """Output chunks as they come, then exactly one outcome, then the end.

        Closing the iterator early ends the tool at once. Raises SandboxBusy, SandboxUnavailable before the first event.
        """
        ...

    def cancel(self, call_id: str) -> bool:
        """End a running call at once; its stream ends with Cancelled. False when no such call runs."""
        ...

    async def start(self) -> None:
        """Prove that confinement works here, then be ready. Raises SandboxUnavailable."""
        ...

    async def stop(self) -> None:
        """End all calls and leave nothing behind."""
        ...
