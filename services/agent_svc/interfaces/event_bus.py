"""What carries dispatches and live frames between processes. It may lose anything at any time: the database is the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

from agent_svc.domain.frame import Frame, SnapshotFrame
from agent_svc.domain.log import Dispatch

# Called with the worker that the frames come from (empty: none) and the frames, in order.
DeliverFrames = Callable[[str, Sequence[Frame]], None]


class FrameSubscription(Protocol):
    """The frames of one conversation."""

    @property
    def live(self) -> bool:
        """Whether deliveries can come; False if it was made while the bus was down."""
        ...

    async def close(self) -> None:
        """No more deliveries. Safe to call twice."""
        ...


class RunOwner(Protocol):
    """What a worker answers about the runs it has."""

    def snapshot(self, run_id: UUID) -> SnapshotFrame | None:
        """The message being written, None if there is none or the run is not here."""
        ...

    def stop(self, run_id: UUID) -> None:
        """Makes the run start nothing more, now or when it comes to be registered: its lease is gone."""
        ...


class DispatchConsumer(Protocol):
    """Takes dispatches off the queue."""

    def capacity(self) -> int:
        """How many more it can take now."""
        ...

    def offer(self, dispatch: Dispatch) -> None:
        """Take one, or drop it: it comes again if it is still due."""
        ...


class EventBus(Protocol):
    """Publishing never raises and never waits for the network: what cannot be sent is dropped."""

    @property
    def connected(self) -> bool:
        """Whether what is published now has a chance to arrive."""
        ...

    async def publish_dispatch(self, dispatch: Dispatch) -> None:
        """Puts a conversation on the work queue."""
        ...

    async def consume(self, consumer: DispatchConsumer) -> Callable[[], None]:
        """Delivers dispatches while the consumer has capacity; returns what to call when capacity has grown."""
        ...

    async def stop_consuming(self) -> None:
        """Delivers no more dispatches."""
        ...

    async def publish_frames(self, conversation_id: UUID, worker: str, frames: Sequence[Frame]) -> None:
        """To the other processes that watch the conversation; never back to this one."""
        ...

    async def subscribe_frames(self, conversation_id: UUID, deliver: DeliverFrames) -> FrameSubscription:
        """Frames that other processes publish."""
        ...

    async def serve_owner(self, worker: str, owner: RunOwner) -> None:
        """Answers questions about this worker's runs."""
        ...

    async def ask_snapshot(self, worker: str, run_id: UUID) -> SnapshotFrame | None:
        """The partial message of a run of another worker; None if there is none, or no answer in time."""
        ...

    async def ask_stop(self, worker: str, run_id: UUID) -> bool:
        """Tells another worker to stop a run; whether it answered in time."""
        ...

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        """Called when the connection is back: what was published in between may be lost."""
        ...

    async def close(self) -> None:
        """Ends the connection."""
        ...
