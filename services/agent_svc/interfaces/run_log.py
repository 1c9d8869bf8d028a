"""The conversation log as the run path sees it: each method is one commit, and one round trip where it is hot."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from agent_svc.domain.conversation import Message
from agent_svc.domain.event import EncodedEvent
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.log import (
    CancelledRun,
    Commit,
    Committed,
    Dispatch,
    Lease,
    LogHead,
    NewRun,
    Turn,
    TurnAsk,
    Unindexed,
)
from agent_svc.domain.run import Run, TokenCount


class CancelEvent(Protocol):
    """Encodes the run_cancelled event once the run's final usage is known."""

    def __call__(self, usage: TokenCount) -> EncodedEvent: ...


class RunLog(Protocol):
    """Writes conversation logs. All raise Unavailable DEPENDENCY_UNAVAILABLE when the database does not answer."""

    async def start(self, new: NewRun) -> Run:
        """Starts a run: run, message, two events and dispatch.

        Raises NotFound for an unknown conversation, RequestIdTaken, FailedPrecondition CONVERSATION_BUSY, ResourceExhausted
        QUOTA_EXCEEDED, and RATE_LIMITED when too many runs of the conversation wait.
        """
        ...

    async def open_total(self, organization_id: UUID) -> int:
        """How many runs of an organization have not ended."""
        ...

    async def claim(self, dispatch: Dispatch, ask: TurnAsk) -> Turn | None:
        """Takes the conversation's lease and its oldest unfinished run; None if it is held, or has none."""
        ...

    async def defer(self, dispatch: Dispatch) -> None:
        """After a claim that found the lease held: the dispatch is due again when that lease expires."""
        ...

    async def next_turn(self, lease: Lease, ask: TurnAsk) -> Turn | None:
        """The next run under a lease that is held; None if there is none any more: then the lease is given back. Raises Fenced."""
        ...

    async def history(self, lease: Lease, history_tokens: int) -> tuple[Message, ...]:
        """The newest messages of the conversation up to that many estimated tokens, oldest first."""
        ...

    async def own_messages(self, run: Run) -> Sequence[Message]:
        """The newest messages of a run, oldest first."""
        ...

    async def commit(self, commit: Commit) -> Committed:
        """Writes a step. Ends the lease with the conversation's last run. Raises Fenced."""
        ...

    async def renew(self, leases: Sequence[Lease]) -> set[UUID]:
        """Extends leases; returns the conversations whose lease still held."""
        ...

    async def release(self, lease: Lease) -> None:
        """Gives a lease back with its run unfinished: any worker may go on at once. Nothing happens if it is lost already."""
        ...

    async def cancel(self, organization_id: UUID, run_id: UUID, now: datetime, event: CancelEvent) -> CancelledRun:
        """Ends a run as cancelled and fences its worker. `event` is None if it had ended before. Raises NotFound."""
        ...

    async def open_runs(self, organization_id: UUID, conversation_id: UUID, before_seq: int) -> Sequence[UUID]:
        """Runs that began before a seq and have not ended, oldest first."""
        ...

    async def due(self, limit: int) -> Sequence[Dispatch]:
        """Dispatches that are due, as many of each organization, put off for a few seconds for everyone else."""
        ...


class EventLog(Protocol):
    """Reads conversation logs for watchers. Raises NotFound for an unknown conversation."""

    async def head(self, organization_id: UUID, conversation_id: UUID) -> LogHead:
        """Where the log is."""
        ...

    async def events(
        self, organization_id: UUID, conversation_id: UUID, after_seq: int, limit: int
    ) -> tuple[LogHead, list[EventFrame]]:
        """Events after a seq, oldest first, and where the log is."""
        ...


class IndexLog(Protocol):
    """What recall memory still lacks."""

    async def unindexed(self, organization_id: UUID, conversation_ids: Sequence[UUID]) -> Sequence[Unindexed]:
        """Messages that are not indexed, of those conversations that exist."""
        ...

    async def mark_indexed(self, organization_id: UUID, indexed: Sequence[Unindexed]) -> None:
        """Notes what recall memory has, and removes the dispatches of conversations with nothing left to do."""
        ...
