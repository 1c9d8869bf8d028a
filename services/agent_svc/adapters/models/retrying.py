"""When a model call that failed before its first event is made again, and after how long."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

from agent_svc.domain.model import ModelError, ModelTimeout

_JITTER = random.SystemRandom()


class RetryLimits(Protocol):
    """See transport.Limits."""

    @property
    def attempts(self) -> int:
        """Most calls, the first included."""
        ...

    @property
    def backoff_s(self) -> float:
        """Before the second call; doubled before each further one."""
        ...

    @property
    def max_retry_wait_s(self) -> float:
        """A longer wait is not waited for but reported."""
        ...


async def wait_for_retry(limits: RetryLimits, attempt: int, error: ModelError) -> bool:
    """After the failed `attempt` (from 1): wait and return True, or return False when another is not worth it.

    A silence is tried again once only: the wait was long already.
    """
    attempts = min(2, limits.attempts) if isinstance(error, ModelTimeout) else limits.attempts
    if not error.retryable or attempt >= attempts:
        return False
    asked: float = getattr(error, "retry_after_s", None) or 0.0
    if asked > limits.max_retry_wait_s:
        return False
    backoff = limits.backoff_s * 2 ** (attempt - 1) * _JITTER.uniform(0.5, 1.5)
    # Not everyone who was told the same second shall come back in it.
    await asyncio.sleep(max(backoff, asked + backoff / 4 if asked else 0.0))
    return True
