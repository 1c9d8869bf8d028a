"""Small words for asking a provider in tests."""

from __future__ import annotations

import contextlib

from agent_svc.adapters.models import Limits
from agent_svc.domain.model import ModelEvent, ModelFinished, ModelRequest, UserMessage
from agent_svc.interfaces.model_provider import ModelProvider

QUICK = Limits(connect_s=2, first_byte_s=0.4, idle_s=0.4, list_s=2, backoff_s=0.02, max_retry_wait_s=1.5)


def ask(text: str) -> ModelRequest:
    return ModelRequest("scripted", [UserMessage(text)])


async def collect(provider: ModelProvider, request: ModelRequest) -> tuple[list[ModelEvent], ModelFinished]:
    """The deltas and the last event."""
    async with contextlib.aclosing(provider.stream(request)) as stream:
        events = [event async for event in stream]
    finished = events.pop()
    assert isinstance(finished, ModelFinished)
    return events, finished
