"""What travels with a call besides its identity: request id, trace, deadline."""

from __future__ import annotations

import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chassis.audit.record import PendingRecord


@dataclass(frozen=True, slots=True)
class Call:
    """The call being served. `deadline` is on the clock of time.monotonic(), None when there is none."""

    method: str
    request_id: str
    traceparent: str
    deadline: float | None = None
    # What the call is yet to leave in the audit log, None for calls that only read.
    record: PendingRecord | None = None

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, not below 0; None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())


_call: ContextVar[Call | None] = ContextVar("hearth_call", default=None)


def current_call() -> Call | None:
    """The call being served, None in background work."""
    return _call.get()


def set_call(call: Call | None) -> None:
    """Sets the call for the rest of the running task. For the server's edge, and for background work that a call began."""
    _call.set(call)


def new_request_id() -> str:
    """128 random bits in hex."""
    return secrets.token_hex(16)


def child_traceparent(parent: str) -> str:
    """A W3C traceparent with a new span of the same trace, or of a new trace if the parent is not one."""
    parts = parent.split("-")
    if len(parts) == 4 and len(parts[1]) == 32 and len(parts[2]) == 16 and len(parts[3]) == 2:
        return f"00-{parts[1]}-{secrets.token_hex(8)}-{parts[3]}"
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
