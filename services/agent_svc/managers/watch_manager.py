"""Who may follow what, and from where."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from agent_svc.domain.frame import Frame
from agent_svc.domain.log import LogHead
from agent_svc.domain.run import Run
from agent_svc.interfaces.run_log import EventLog
from agent_svc.interfaces.unit_of_work import UnitOfWork
from agent_svc.managers.hub import Feed, Hub
from agent_svc.managers.watcher import Watcher, beyond_head
from chassis import ids


@dataclass(frozen=True, slots=True)
class Following:
    """A conversation or run that is followed: iterate `batches` once."""

    conversation_id: UUID
    head: LogHead
    batches: AsyncGenerator[list[Frame], None]


class WatchManager:
    """Opens watchers for callers of an organization."""

    def __init__(self, log: EventLog, hub: Hub, work: UnitOfWork) -> None:
        self._log = log
        self._hub = hub
        self._work = work

    @asynccontextmanager
    async def feed(self, conversation_id: UUID) -> AsyncGenerator[Feed, None]:
        """Everything live about a conversation from now on, for what is about to be started in it."""
        feed = await self._hub.attach(conversation_id)
        try:
            yield feed
        finally:
            self._hub.detach(conversation_id, feed)

    def started(self, feed: Feed, run: Run) -> AsyncGenerator[list[Frame], None]:
        """A run that was started after the feed was attached: all of it comes live.

        Unless nothing waits in the feed: then it was started before, under the same request id, and the table has it.
        """
        watcher = Watcher(
            self._log, self._hub, run.organization_id, run.conversation_id, run.id, after_seq=run.first_seq - 1
        )
        return watcher.batches(feed, from_table=feed.empty)

    @asynccontextmanager
    async def run(self, organization_id: UUID, run_id: UUID, after_seq: int | None) -> AsyncGenerator[Following, None]:
        """A run's part of the log after a seq (None: from now on), to its terminal event. Raises NotFound, OutOfRange."""
        async with self._work.of(organization_id) as transaction:
            run = await transaction.runs.get(run_id)
        if run is None:
            raise ids.absent("run", run_id)
        async with self._open(organization_id, run.conversation_id, run, after_seq) as following:
            yield following

    @asynccontextmanager
    async def conversation(
        self, organization_id: UUID, conversation_id: UUID, after_seq: int | None
    ) -> AsyncGenerator[Following, None]:
        """A conversation's log after a seq (None: from now on). Raises NotFound, OutOfRange."""
        async with self._open(organization_id, conversation_id, None, after_seq) as following:
            yield following

    @asynccontextmanager
    async def _open(
        self, organization_id: UUID, conversation_id: UUID, run: Run | None, after_seq: int | None
    ) -> AsyncGenerator[Following, None]:
        async with self.feed(conversation_id) as feed:
            head = await self._log.head(organization_id, conversation_id)
            begin = head.head_seq if after_seq is None else after_seq
            if begin > head.head_seq:
                raise beyond_head(head)
            if run is not None:
                begin = max(begin, run.first_seq - 1)
            watcher = Watcher(
                self._log,
                self._hub,
                organization_id,
                conversation_id,
                run.id if run else None,
                begin,
                ended=run is not None and run.state.ended,
            )
            batches = watcher.batches(feed)
            try:
                yield Following(conversation_id, head, batches)
            finally:
                await batches.aclose()
