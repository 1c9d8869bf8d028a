"""Watchers that are cut off at random and go on at any replica see every event once, in order.

HEARTH_RESUME_EVENTS (default 20,000) is how many events are written, in all, while they are watched; HEARTH_RESUME_CUTS (default 300)
how often watchers are cut at least. 100000 and 1000 are the promise.
"""

import asyncio
import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import pytest

from agent_svc.domain.event import MemoryUpdated, RunStarted
from agent_svc.domain.frame import EventFrame
from agent_svc.domain.log import Dispatch, TurnAsk
from agent_svc.managers.run_writer import RunWriter
from agent_svc.servicers.event_codec import ProtobufEventCodec
from tests.integration.agent_svc.replica import Addresses, Replica, replica

EVENTS = int(os.environ.get("HEARTH_RESUME_EVENTS", "20000"))
CUTS = int(os.environ.get("HEARTH_RESUME_CUTS", "300"))
SEED = int(os.environ.get("HEARTH_RELIABILITY_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
CONVERSATIONS = 10
WATCHERS = 2
_PER_COMMIT = 5


@dataclass
class Client:
    """One watcher: what it has, and how often it was cut."""

    conversation_id: UUID
    after_seq: int
    seen: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    cuts: int = 0

    @property
    def seq(self) -> int:
        """Where it goes on."""
        return self.seen[-1][0] if self.seen else self.after_seq

    async def follow(self, replicas: list[Replica], chance: random.Random, last_seq: int) -> None:
        """Reads to `last_seq`, from one replica or another, for a random number of events at a time."""
        while self.seq < last_seq:
            left = chance.randrange(1, max(2, EVENTS * WATCHERS // CUTS))
            here = chance.choice(replicas)
            async with here.core.watching.conversation(
                here.caller.organization_id, self.conversation_id, self.seq
            ) as following:
                async for batch in following.batches:
                    # A cut comes in the middle of what has arrived: the rest is lost with the connection.
                    events = [frame for frame in batch if isinstance(frame, EventFrame)][:left]
                    self.seen += [(frame.seq, frame.body) for frame in events]
                    left -= len(events)
                    if left <= 0 or self.seq >= last_seq:
                        break
            self.cuts += self.seq < last_seq


async def write(here: Replica, conversation_id: UUID, chance: random.Random) -> None:
    """A run that goes on and on, a few events a commit, at an uneven pace."""
    codec = ProtobufEventCodec()
    now = datetime.now(UTC)
    ask = TurnAsk("writer", now, codec.encode(RunStarted(), now), 1000)
    turn = await here.outside.log.claim(Dispatch(here.caller.organization_id, conversation_id), ask)
    assert turn is not None
    writer = RunWriter(here.outside.log, here.core.hub, codec)
    for number in range(EVENTS // CONVERSATIONS // _PER_COMMIT):
        events = [MemoryUpdated((f"block_{number}_{place}",), "call") for place in range(_PER_COMMIT)]
        await writer.write(turn, [], events)
        if chance.random() < 0.02:
            await asyncio.sleep(chance.random() / 10)


@pytest.mark.timeout(600)
async def test_every_event_once_however_often_a_watcher_is_cut(addresses: Addresses) -> None:
    chance = random.Random(SEED)
    async with replica(addresses, concurrency=0) as one, replica(addresses, concurrency=0) as two:
        two.caller = one.caller
        runs = [await one.start(await one.agent(), "go on") for _ in range(CONVERSATIONS)]
        # Queued, its message, started, and what `write` adds.
        last_seq = 3 + EVENTS // CONVERSATIONS // _PER_COMMIT * _PER_COMMIT
        clients = [
            Client(run.conversation_id, after_seq)
            for run in runs
            for after_seq in [0, *(chance.randrange(3) for _ in range(WATCHERS - 1))]
        ]
        writers = [write(chance.choice([one, two]), run.conversation_id, chance) for run in runs]
        await asyncio.gather(*writers, *(client.follow([one, two], chance, last_seq) for client in clients))
        logs = {run.conversation_id: await _log(one, run.conversation_id) for run in runs}
    for client in clients:
        assert client.seen == logs[client.conversation_id][client.after_seq :], f"seed {SEED}"
    cuts = sum(client.cuts for client in clients)
    print(f"seed {SEED}: {cuts} cuts, {sum(len(client.seen) for client in clients)} events seen of {EVENTS} written")
    assert cuts >= CUTS


async def _log(here: Replica, conversation_id: UUID) -> list[tuple[int, bytes]]:
    _, events = await here.outside.event_log.events(here.caller.organization_id, conversation_id, 0, EVENTS + 10)
    return [(event.seq, event.body) for event in events]
