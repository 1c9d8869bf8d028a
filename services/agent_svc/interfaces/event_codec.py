"""Turns events into the bytes that are stored and sent."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from agent_svc.domain.event import EncodedEvent, EventPayload


class EventCodec(Protocol):
    """Encodes once, when the event is written; readers get the bytes as they are."""

    def encode(self, payload: EventPayload, create_time: datetime) -> EncodedEvent:
        """The event without its seq, run, conversation and epoch, which its row holds."""
        ...
