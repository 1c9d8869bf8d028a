"""Bugs that a careless change could bring, as classes that take the place of real ones. See test_checker."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from agent_svc.domain.approval import Decision, Ruling, RulingKey
from agent_svc.domain.conversation import Message
from agent_svc.domain.decision import LedgerEntry
from agent_svc.domain.delta import PartialMessage
from agent_svc.domain.event import EventPayload
from agent_svc.domain.frame import DeltaFrame, EventFrame, Frame
from agent_svc.domain.log import CancelledRun, Commit, Committed, Dispatch, Fenced, NewRun, Turn, TurnAsk
from agent_svc.domain.run import Run, RunState
from agent_svc.interfaces.run_log import CancelEvent
from agent_svc.managers.run_writer import RunWriter
from agent_svc.managers.watcher import Watcher
from agent_svc.repositories.prepared import Prepared
from agent_svc.repositories.run_log import PostgresRunLog
from chassis import ids
from chassis.errors import Unavailable

_EPOCH = Prepared("test_epoch", "SELECT lease_epoch FROM conversations WHERE id = %(conversation)s")


class Unfenced(PostgresRunLog):
    """Writes whoever holds the lease; as if no epoch stood in the WHERE clause."""

    async def commit(self, commit: Commit) -> Committed:
        try:
            return await super().commit(commit)
        except Fenced:
            values = {"conversation": commit.lease.conversation_id}
            ((row,),) = await self._pool.tenant(commit.lease.organization_id, [_EPOCH], values)
            await self._pool.tenant(commit.lease.organization_id, [_SET_EPOCH], values | {"epoch": commit.lease.epoch})
            try:
                return await super().commit(commit)
            finally:
                await self._pool.tenant(commit.lease.organization_id, [_SET_EPOCH], values | {"epoch": row[0]})


_SET_EPOCH = Prepared(
    "test_set_epoch", "UPDATE conversations SET lease_epoch = %(epoch)s WHERE id = %(conversation)s RETURNING 1"
)


class Repeating(PostgresRunLog):
    """Writes each summary twice, as a worker might that does not look at what its predecessor wrote."""

    async def commit(self, commit: Commit) -> Committed:
        committed = await super().commit(commit)
        first = commit.entries[0].message if commit.entries else None
        if first is None or first.summarized is None:
            return committed
        again = replace(commit.entries[0], message=replace(first, id=ids.new()))
        return await super().commit(replace(commit, entries=(again, *commit.entries[1:])))


class Skipping(PostgresRunLog):
    """Reads one message too few of what came after the summary."""

    async def claim(self, dispatch: Dispatch, ask: TurnAsk) -> Turn | None:
        turn = await super().claim(dispatch, ask)
        if turn is None or not any(message.summarized for message in turn.history):
            return turn
        oldest = next(index for index, message in enumerate(turn.history) if message.summarized is None)
        return replace(turn, history=(*turn.history[:oldest], *turn.history[oldest + 1 :]))


class Hasty(RunWriter):
    """Tells the watchers first."""

    _heads: ClassVar[dict[UUID, int]] = {}

    async def write(
        self, turn: Turn, history: list[Message], events: Sequence[EventPayload], **changes: Any
    ) -> Committed:
        head = max(turn.started.seq, self._heads.get(turn.run.id, 0))
        encoded = [self._codec.encode(event, turn.run.create_time) for event in events]
        frames = [
            EventFrame(seq, turn.run.id, turn.lease.epoch, one.type, one.body)
            for seq, one in enumerate(encoded, head + 1)
        ]
        await self._hub.publish(turn.lease.conversation_id, frames)
        committed = await super().write(turn, history, events, **changes)
        self._heads[turn.run.id] = committed.head_seq
        return committed


class Flaky(PostgresRunLog):
    """The database is away at the first commit."""

    _failed = False

    async def commit(self, commit: Commit) -> Committed:
        if not self._failed:
            self._failed = True
            await self.release(commit.lease)
            raise Unavailable("the database does not answer", reason="DEPENDENCY_UNAVAILABLE")
        return await super().commit(commit)


class Deaf(Watcher):
    """Loses one event and does not notice."""

    def _event(self, frame: EventFrame, ready: list[Frame]) -> None:
        super()._event(frame, [] if frame.seq == 3 else ready)


class Miscounting(PostgresRunLog):
    """After a commit the head is one too low."""

    async def commit(self, commit: Commit) -> Committed:
        committed = await super().commit(commit)
        values = {"conversation": commit.lease.conversation_id}
        await self._pool.tenant(commit.lease.organization_id, [_LOWER], values)
        return committed


_LOWER = Prepared("test_lower", "UPDATE conversations SET head_seq = head_seq - 1 WHERE id = %(conversation)s")


class WithoutLedger(PostgresRunLog):
    """Does not look what was begun before."""

    async def _ledger(self, run: Run) -> dict[str, LedgerEntry]:
        return {}


class Agreeable(PostgresRunLog):
    """Takes every answer for a yes."""

    async def _rulings(self, run: Run) -> dict[RulingKey, Ruling]:
        found = await super()._rulings(run)
        return {key: Ruling(Decision(approved=True, reason=""), one.tool_version) for key, one in found.items()}


class Forgetful(PostgresRunLog):
    """Answers before it has written, and then does not."""

    async def start(self, new: NewRun) -> Run:
        return Run(
            id=new.run_id,
            organization_id=new.organization_id,
            agent_id=ids.new(),
            conversation_id=new.conversation_id,
            state=RunState.QUEUED,
            first_seq=1,
            input_preview=new.preview,
            create_time=new.create_time,
        )


class Stuttering(PostgresRunLog):
    """Writes the reply, does not hear that it is written, and writes it again."""

    async def commit(self, commit: Commit) -> Committed:
        if commit.ending is not None:
            await super().commit(replace(commit, entries=commit.entries[:1], ending=None, step=None))
        return await super().commit(commit)


class CountingBytes(PartialMessage):
    """Offsets of UTF-8."""

    def take(self) -> list[DeltaFrame]:
        so_far = "".join(self._text)
        return [msgspec.structs.replace(frame, offset=len(so_far[: frame.offset].encode())) for frame in super().take()]


class Polite(PostgresRunLog):
    """Says yes."""

    async def cancel(self, organization_id: UUID, run_id: UUID, now: datetime, event: CancelEvent) -> CancelledRun:
        run = Run(run_id, organization_id, ids.new(), ids.new(), RunState.CANCELLED, 1, "", now)
        return CancelledRun(run, None, "", more=False)
