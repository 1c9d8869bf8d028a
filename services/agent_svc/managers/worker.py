"""Takes conversations off the queue and works off their runs, many at a time, each under its lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from agent_svc.domain.compaction import LOADED_TOKENS
from agent_svc.domain.conversation import MessageRole
from agent_svc.domain.event import RunStarted
from agent_svc.domain.log import NEVER, Committed, Dispatch, Fenced, Lease, Turn, TurnAsk
from agent_svc.interfaces.event_bus import EventBus
from agent_svc.interfaces.event_codec import EventCodec
from agent_svc.interfaces.run_log import RunLog
from agent_svc.managers.caches import HistoryCache
from agent_svc.managers.fair_queue import FairQueue
from agent_svc.managers.hub import Hub
from agent_svc.managers.indexer import Indexer
from agent_svc.managers.lease import LeaseKeeper
from agent_svc.managers.live_runs import LiveRuns
from agent_svc.managers.loop import RunLoop
from agent_svc.managers.run_writer import LogAway
from chassis.errors import DomainError
from chassis.failpoints import failpoint
from chassis.identity import set_current
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

# Estimated tokens of history that come with a turn at the most, and that are kept in memory for a conversation.
HISTORY_TOKENS = LOADED_TOKENS
# Dispatches that wait in this process for a slot, at least.
_PLACES = 2_000


class Worker:
    """Implements interfaces.event_bus.DispatchConsumer. `worker_id` names this process to the others."""

    def __init__(
        self,
        worker_id: str,
        log: RunLog,
        bus: EventBus,
        hub: Hub,
        live: LiveRuns,
        loop: RunLoop,
        leases: LeaseKeeper,
        indexer: Indexer,
        histories: HistoryCache,
        codec: EventCodec,
        *,
        concurrency: int,
        grace_s: float,
    ) -> None:
        self._id = worker_id
        self._log = log
        self._bus = bus
        self._hub = hub
        self._live = live
        self._loop = loop
        self._leases = leases
        self._indexer = indexer
        self._histories = histories
        self._codec = codec
        self._queue = FairQueue(concurrency, max(_PLACES, 2 * concurrency) if concurrency else 0)
        self._grace_s = grace_s
        self._busy: dict[UUID, asyncio.Task[None]] = {}
        self._again: set[UUID] = set()
        self._stopping = False
        self._grown: Callable[[], None] | None = None

    async def start(self) -> None:
        """Begins to take work."""
        await self._bus.serve_owner(self._id, self._live)
        self._grown = await self._bus.consume(self)

    async def stop(self) -> None:
        """Takes no more; running turns get the grace, then are handed over."""
        self._stopping = True
        await self._bus.stop_consuming()
        for dispatch in self._queue.clear():
            await self._bus.publish_dispatch(dispatch)
        if self._busy:
            await asyncio.wait(self._busy.values(), timeout=self._grace_s)
        await asyncio.gather(*map(end_task, self._busy.values()))

    def capacity(self) -> int:
        return 0 if self._stopping else self._queue.room()

    def offer(self, dispatch: Dispatch) -> None:
        """Dropped when full or stopping: it comes again. Looked at later when the conversation is in work here already."""
        if self._stopping:
            return
        if dispatch.conversation_id in self._busy:
            # Its last run may have ended just now, and nobody looks for the next any more.
            self._again.add(dispatch.conversation_id)
        elif self._queue.offer(dispatch):
            self._begin()

    def _begin(self) -> None:
        """Starts what may run now."""
        while not self._stopping and (dispatch := self._queue.take()) is not None:
            task = asyncio.create_task(self._work(dispatch))
            self._busy[dispatch.conversation_id] = task
            task.add_done_callback(partial(self._free, dispatch))

    def _free(self, dispatch: Dispatch, _: asyncio.Task[None]) -> None:
        del self._busy[dispatch.conversation_id]
        self._queue.done(dispatch)
        if dispatch.conversation_id in self._again:
            self._again.discard(dispatch.conversation_id)
            self._queue.offer(dispatch)
        self._begin()
        if self._grown is not None:
            self._grown()

    async def _work(self, dispatch: Dispatch) -> None:
        set_current(None)
        try:
            after_seq = self._histories.after_seq(dispatch.conversation_id)
            turn = await self._log.claim(dispatch, self._ask(after_seq))
            if turn is None:
                # Held by another, or nothing to run: then it may be there to be indexed.
                await self._log.defer(dispatch)
                self._indexer.note(dispatch.organization_id, dispatch.conversation_id)
                return
            await self._hold(turn, after_seq)
        except DomainError as error:
            _log.warning("a conversation could not be taken", extra={"reason": error.reason})
        except Exception:
            _log.exception("a conversation could not be worked on")

    async def _hold(self, turn: Turn, after_seq: int) -> None:
        """Works while the lease is held; whatever happens, it is not renewed any more afterwards."""
        lease = turn.lease
        task = asyncio.current_task()
        assert task is not None
        self._leases.hold(lease, lambda: _cancel(task))
        try:
            await self._runs(turn, after_seq, task)
        except Fenced:
            _log.warning("fenced: another worker has the conversation")
        except LogAway:
            _log.warning("the log cannot be written; the run goes on when its lease has expired")
        except asyncio.CancelledError:
            if not self._stopping:
                # The lease is lost or the run was cancelled: nothing is to be written.
                return
            await self._hand_over(lease)
            raise
        finally:
            self._leases.drop(lease)

    async def _runs(self, turn: Turn, after_seq: int, task: asyncio.Task[None]) -> None:
        """The runs of the conversation, one after the other, until none waits or another organization does."""
        lease = turn.lease
        while True:
            committed = await self._run(turn, after_seq, task)
            if committed is None:
                return
            self._indexer.note(lease.organization_id, lease.conversation_id)
            if committed.open_runs == 0 or committed.waits:
                return
            if self._stopping or self._queue.others_wait(lease.organization_id):
                await self._hand_over(lease)
                return
            after_seq = self._histories.after_seq(lease.conversation_id)
            following = await self._log.next_turn(lease, self._ask(after_seq))
            if following is None:
                return
            turn = following

    async def _run(self, turn: Turn, after_seq: int, task: asyncio.Task[None]) -> Committed | None:
        run_id = turn.run.id
        history = self._histories.join(turn.lease.conversation_id, after_seq, turn.history, cut=turn.cut)
        if turn.run.steps and not any(one.run_id == run_id and one.role is MessageRole.ASSISTANT for one in history):
            # So much was said behind it since that its own steps are not among the newest messages.
            before_seq = history[0].seq if history else NEVER
            history = (*await self._log.run_messages(turn.lease, turn.run, before_seq), *history)
        if not self._live.register(run_id, lambda: _cancel(task)):
            return None
        try:
            await failpoint("turn.claimed")
            await self._hub.publish(turn.lease.conversation_id, [turn.started])
            return await self._loop.work(turn, history)
        finally:
            self._live.unregister(run_id)

    async def _hand_over(self, lease: Lease) -> None:
        """The run stays as it is and is due at once: for another worker, this one in its turn, or after its restart."""
        try:
            async with asyncio.timeout(2.0):
                await self._log.release(lease)
                await self._bus.publish_dispatch(Dispatch(lease.organization_id, lease.conversation_id))
        except (DomainError, TimeoutError):
            _log.warning("a lease could not be handed over; it expires")

    def _ask(self, after_seq: int) -> TurnAsk:
        now = datetime.now(UTC)
        return TurnAsk(self._id, now, self._codec.encode(RunStarted(), now), HISTORY_TOKENS, after_seq)


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
