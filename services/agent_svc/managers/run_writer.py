"""Writes what a run does: one commit, then the events go to the watchers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypedDict, Unpack
from uuid import UUID

from agent_svc.domain.approval import ApprovalRequest
from agent_svc.domain.conversation import Message
from agent_svc.domain.event import EventPayload, MessageCompleted
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.log import Commit, Committed, Ending, Entry, LedgerEnd, LedgerStart, Turn
from agent_svc.domain.run import RunStep, TokenCount
from agent_svc.interfaces.event_codec import EventCodec
from agent_svc.interfaces.run_log import RunLog
from agent_svc.managers.hub import Hub
from chassis.errors import ResourceExhausted, Unavailable
from chassis.failpoints import failpoint


class _Changes(TypedDict, total=False):
    step: RunStep | None
    usage: TokenCount | None
    next_message_id: UUID | None
    attempt: int | None
    ledger_starts: tuple[LedgerStart, ...]
    ledger_ends: tuple[LedgerEnd, ...]
    ending: Ending | None
    waits: bool
    approval: ApprovalRequest | None


class LogAway(Exception):
    """The log cannot be written or read now; whether the last commit happened is not known. The worker must stop."""


class RunWriter:
    """Commits steps of runs. Nothing is sent before it is committed."""

    def __init__(self, log: RunLog, hub: Hub, codec: EventCodec) -> None:
        self._log = log
        self._hub = hub
        self._codec = codec

    async def write(
        self, turn: Turn, history: list[Message], events: Sequence[EventPayload], **changes: Unpack[_Changes]
    ) -> Committed:
        """Commits events, in order, with the messages that they report (added to `history`) and the changes.

        Raises Fenced, LogAway.
        """
        now = datetime.now(UTC)
        entries = tuple(
            Entry(self._codec.encode(event, now), event.message if isinstance(event, MessageCompleted) else None)
            for event in events
        )
        commit = Commit(lease=turn.lease, run_id=turn.run.id, entries=entries, now=now, **changes)
        ending = commit.ending is not None
        await failpoint("run.ending" if ending else "step.committing")
        try:
            committed = await self._log.commit(commit)
        except (Unavailable, ResourceExhausted) as error:
            raise LogAway from error
        await failpoint("run.ended" if ending else "step.committed")
        first = committed.head_seq - len(entries) + 1
        frames: list[EventFrame] = []
        for seq, entry in enumerate(entries, first):
            if entry.message is not None:
                history.append(_stored(entry.message, seq))
            frames.append(EventFrame(seq, turn.run.id, turn.lease.epoch, entry.event.type, entry.event.body))
        await self._hub.publish(turn.lease.conversation_id, frames)
        return committed


def _stored(message: Message, seq: int) -> Message:
    return replace(message, seq=seq)
