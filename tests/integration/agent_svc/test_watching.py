"""Watchers: from any seq, on any replica, in the middle of a message, when they are slow."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from agent_svc.domain.agent import AgentSettings, CompactionSettings
from agent_svc.domain.event import EventType
from agent_svc.domain.frame import CheckpointFrame, DeltaFrame, EventFrame, Frame, SnapshotFrame
from agent_svc.managers import watcher
from agent_svc.managers.hub import QUEUE_LIMIT
from chassis.errors import NotFound, OutOfRange, Unavailable
from tests.fakes.model_script import ScriptedCall, Step
from tests.fakes.model_server import FakeModelServer
from tests.integration.agent_svc.replica import Addresses, Replica, replica, seqs, types

E = EventType


def text_of(frames: list[Frame]) -> str:
    """What a client that follows the protocol shows of the message in progress."""
    text, attempt = "", 0
    for frame in frames:
        if isinstance(frame, SnapshotFrame):
            text, attempt = frame.text, frame.attempt
        elif isinstance(frame, DeltaFrame):
            text = text if frame.attempt == attempt else ""
            attempt = frame.attempt
            assert frame.offset == len(text), "a piece is missing"
            text += frame.text
    return text


async def test_resume_from_every_seq_gives_exactly_the_rest(here: Replica, model: FakeModelServer) -> None:
    model.script("find", Step(tool_calls=[ScriptedCall("archival_memory_search", {"query": "x"})]), Step(text="ok"))
    agent = await here.agent()
    run = await here.start(agent, "find it")
    everything = await here.follow(run)
    last = seqs(everything)[-1]
    for after_seq in range(last + 1):
        assert seqs(await here.follow(run, after_seq)) == list(range(after_seq + 1, last + 1))
    with pytest.raises(OutOfRange) as beyond:
        await here.follow(run, last + 1)
    assert beyond.value.metadata["head_seq"] == str(last)


async def test_a_run_begins_at_its_own_part_of_the_log(here: Replica) -> None:
    agent = await here.agent()
    await here.finished(await here.start(agent, "one"))
    second = await here.start(agent, "two")
    assert seqs(await here.follow(second, 0)) == [6, 7, 8, 9, 10]


async def test_another_organizations_run_and_conversation_are_absent(addresses: Addresses) -> None:
    async with replica(addresses) as mine, replica(addresses, concurrency=0) as foreign:
        agent = await mine.agent()
        run = await mine.start(agent, "secret")
        organization_id = foreign.caller.organization_id
        with pytest.raises(NotFound):
            async with foreign.core.watching.run(organization_id, run.id, 0):
                pass
        with pytest.raises(NotFound):
            async with foreign.core.watching.conversation(organization_id, run.conversation_id, 0):
                pass
        with pytest.raises(NotFound):
            await foreign.core.runs.cancel(foreign.caller, run.id)


async def test_who_comes_in_the_middle_gets_a_snapshot_and_the_rest(
    addresses: Addresses, model: FakeModelServer
) -> None:
    """On the replica that works, and on another one."""
    whole = "once upon a time there was a dog"
    model.script("story", Step(text=whole, gate="g", gate_after=4))
    async with replica(addresses) as worker, replica(addresses, concurrency=0) as other:
        other.caller = worker.caller
        agent = await worker.agent()
        run = await worker.start(agent, "a story")
        await model.until(lambda book: book.in_flight == 1)
        await asyncio.sleep(0.3)
        late = [asyncio.create_task(one.follow(run, 2)) for one in (worker, other)]
        await asyncio.sleep(0.5)
        model.book.open_every_gate()
        for frames in await asyncio.gather(*late):
            snapshots = [frame for frame in frames if isinstance(frame, SnapshotFrame)]
            assert [snapshot.text for snapshot in snapshots] == ["once upon a time "]
            assert text_of(frames) == whole
            assert types(frames) == [E.RUN_STARTED, E.MESSAGE_COMPLETED, E.RUN_SUCCEEDED]


async def test_watchers_on_every_replica_see_the_same(addresses: Addresses, model: FakeModelServer) -> None:
    model.script("story", Step(text="a b c d e f g h i j", token_delay_ms=10), repeat=True)
    async with replica(addresses) as worker, replica(addresses) as other:
        other.caller = worker.caller
        agent = await worker.agent()
        for turn in range(5):
            run = await worker.start(agent, f"story {turn}")
            here, there = await asyncio.gather(worker.follow(run), other.follow(run))
            assert seqs(here) == seqs(there) == [5 * turn + number for number in range(1, 6)]
            assert text_of(here) == text_of(there) == "a b c d e f g h i j"


async def test_a_conversation_is_followed_over_many_runs(here: Replica) -> None:
    agent = await here.agent()
    found: list[Frame] = []

    async def follow() -> None:
        organization_id = here.caller.organization_id
        async with here.core.watching.conversation(organization_id, agent.default_conversation_id, None) as following:
            async for batch in following.batches:
                found.extend(batch)
                if seqs(found)[-1:] == [15]:
                    return

    following = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    for text in ("one", "two", "three"):
        await here.finished(await here.start(agent, text))
    await asyncio.wait_for(following, 10)
    assert seqs(found) == list(range(1, 16))


async def test_a_slow_reader_loses_deltas_and_no_event(here: Replica, model: FakeModelServer) -> None:
    model.script("long", Step(text="x" * 300, chunk_size=1, token_delay_ms=1))
    # Without summaries, so that every run has five events.
    agent = await here.agent(settings=AgentSettings(compaction=CompactionSettings(enabled=False)))
    organization_id = here.caller.organization_id
    async with here.core.watching.conversation(organization_id, agent.default_conversation_id, 0) as following:
        first = await here.start(agent, "long")
        await here.finished(first)
        # As many at a time as a conversation takes.
        for _ in range(QUEUE_LIMIT // 200):
            runs = [await here.start(agent, f"turn {number}") for number in range(50)]
            await here.finished(runs[-1], timeout_s=100)
        found: list[int] = []
        async for batch in following.batches:
            found += seqs(batch)
            if found and found[-1] == 5 * (QUEUE_LIMIT // 4 + 1):
                break
    assert found == list(range(1, len(found) + 1))


async def test_silence_is_broken_by_checkpoints(here: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "CHECKPOINT_S", 0.3)
    agent = await here.agent()
    await here.finished(await here.start(agent, "hello"))
    organization_id = here.caller.organization_id
    async with here.core.watching.conversation(organization_id, agent.default_conversation_id, 3) as following:
        frames: list[Frame] = []
        async for batch in following.batches:
            frames += batch
            if isinstance(batch[-1], CheckpointFrame):
                break
    assert seqs(frames) == [4, 5]
    assert frames[-1] == CheckpointFrame(5)


async def test_what_the_bus_lost_is_read_from_the_table(
    addresses: Addresses, model: FakeModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second frame from another replica is dropped on the way: no event may be missing."""
    monkeypatch.setattr(watcher, "CHECKPOINT_S", 0.5)
    model.script("story", Step(text="a b c d e f g h i j k l m n", token_delay_ms=10), repeat=True)
    async with replica(addresses) as worker, replica(addresses, concurrency=0) as other:
        other.caller = worker.caller
        publish, count = worker.outside.bus.publish_frames, 0

        async def lossy(conversation_id: UUID, origin: str, frames: Sequence[Frame]) -> None:
            nonlocal count
            count += 1
            if count % 2:
                await publish(conversation_id, origin, frames)

        monkeypatch.setattr(worker.outside.bus, "publish_frames", lossy)
        agent = await worker.agent()
        for turn in range(4):
            run = await worker.start(agent, f"story {turn}")
            frames = await other.follow(run)
            assert seqs(frames) == [5 * turn + number for number in range(1, 6)]
            assert "a b c d e f g h i j k l m n".startswith(text_of(frames))


async def test_an_event_too_large_for_the_bus_arrives(addresses: Addresses) -> None:
    async with replica(addresses) as worker, replica(addresses, concurrency=0) as other:
        other.caller = worker.caller
        agent = await worker.agent()
        following = asyncio.create_task(first_event(other, agent.default_conversation_id))
        await asyncio.sleep(0.2)
        await worker.start(agent, "é" * 500_000)
        event = await asyncio.wait_for(following, 10)
        assert len(event.body) > 1_000_000


async def first_event(here: Replica, conversation_id: UUID) -> EventFrame:
    async with here.core.watching.conversation(here.caller.organization_id, conversation_id, 0) as following:
        async for batch in following.batches:
            for frame in batch:
                if isinstance(frame, EventFrame) and frame.type is E.MESSAGE_COMPLETED:
                    return frame
    raise AssertionError("the stream ended")


async def test_watchers_are_told_to_come_back_when_a_replica_stops(addresses: Addresses) -> None:
    async with replica(addresses, concurrency=0) as leaving:
        agent = await leaving.agent()
        await leaving.start(agent, "hello")

        async def follow() -> tuple[list[Frame], str]:
            organization_id, conversation_id = leaving.caller.organization_id, agent.default_conversation_id
            found: list[Frame] = []
            try:
                async with leaving.core.watching.conversation(organization_id, conversation_id, 0) as following:
                    async for batch in following.batches:
                        found += batch
            except Unavailable as told:
                return found, told.reason
            return found, "ended without a word"

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.3)
        await leaving.core.hub.stop()
        found, told = await asyncio.wait_for(following, 2)
        assert (seqs(found), told) == ([1, 2], "SHUTTING_DOWN")
