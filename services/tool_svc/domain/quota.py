"""Calls of tools in a minute: this clock minute's, and of the one before the share that is less than a minute ago.

So the count slides, and one row an organization is enough for it. The share is of the minute's calls as if they had come evenly.
"""

import math
from dataclasses import dataclass

MINUTE_S = 60.0
# Limits of an organization, by name.
TOOL_CALLS = "tool_calls_per_minute"
MAX_TIMEOUT_S = "max_tool_timeout_s"
MAX_MEMORY_MIB = "max_tool_memory_mib"
MAX_OUTPUT_KIB = "max_tool_output_kib"
MAX_PACKAGES = "max_tool_packages"


@dataclass(frozen=True, slots=True)
class CallCount:
    """Calls in this clock minute and in the one before, `second` seconds into it."""

    calls: int
    calls_before: int
    second: float

    @property
    def last_minute(self) -> int:
        """Calls that count now."""
        return self.calls + math.ceil(self.calls_before * (1 - self.second / MINUTE_S))

    def retry_after_s(self, limit: int) -> float | None:
        """Seconds until one more fits under a limit, None if none ever does."""
        if limit <= 0:
            return None
        if self.calls < limit:
            until = _second_when(self.calls_before, limit - 1 - self.calls)
        else:
            until = MINUTE_S + _second_when(self.calls, limit - 1)
        return max(until - self.second, 0.1)


def _second_when(before: int, room: int) -> float:
    """The second of a minute from which no more than `room` of the calls of the minute before count."""
    return MINUTE_S * (1 - min(1.0, room / before)) if before else 0.0
