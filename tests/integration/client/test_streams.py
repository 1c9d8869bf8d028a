"""A run's stream through broken connections: every event exactly once, one complete reply."""

import asyncio
import time

import grpc
import pytest

from hearth.agent.v1.event_pb2 import Frame
from hearth_client import AsyncHearth, MessageAssembler, NotFoundError, UnavailableError
from hearth_client._stream import FrameStream
from tests.fakes.cutting_proxy import CuttingProxy
from tests.fakes.hearth_server import API_KEY, Break, FakeHearth, explained
from tests.fakes.run_log import RunLog, Script

PLAIN = (
    Script()
    .said("hi")
    .writes("m1", "Let ", "me ", "roll.")
    .completed("m1", "Let me roll.")
    .calls("roll", "{}")
    .writes("m2", "A ", "six", " 🎲", "!")
    .completed("m2", "A six 🎲!")
    .succeeded()
    .frames
)
RESTARTED = (
    Script()
    .said("hi")
    .writes("m1", "Once ", "upon ")
    .restarts("m1", 2)
    .writes("m1", "Long ", "ago", attempt=2)
    .completed("m1", "Long ago")
    .succeeded()
    .frames
)
CODES = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    None,
]


async def read(stream: FrameStream) -> tuple[list[int], list[str], MessageAssembler]:
    """Seqs of the events, complete texts of the assistant, and the assembler."""
    assembler = MessageAssembler()
    seqs: list[int] = []
    async for frame in stream:
        assembler.feed(frame)
        if frame.HasField("event"):
            seqs.append(frame.event.seq)
    return seqs, [m.text for m in assembler.messages if m.id != "msg_user"], assembler


@pytest.mark.parametrize("script", [PLAIN, RESTARTED], ids=["plain", "restarted"])
@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name if code else "closed")
async def test_a_cut_at_any_point_loses_and_repeats_nothing(
    server: FakeHearth, client: AsyncHearth, script: list[Frame], code: grpc.StatusCode | None
) -> None:
    texts = [f.event.message_completed.message.text for f in script if f.event.HasField("message_completed")][1:]
    for point in range(len(script)):
        server.log = RunLog(script)
        server.breaks = [Break(point, code)]
        stream = client.runs.send("hi", agent_id="agent_1")
        seqs, said, _ = await read(stream)
        assert seqs == [e.seq for e in server.log.events], point
        assert said == texts, point
        assert stream.reconnects == 1, point


async def test_many_cuts_in_one_run(server: FakeHearth, client: AsyncHearth) -> None:
    server.log = RunLog(PLAIN)
    server.breaks = [Break(i, CODES[i % len(CODES)]) for i in (0, 1, 0, 2, 1, 3, 0, 1)]
    stream = client.runs.send("hi", agent_id="agent_1")
    seqs, said, _ = await read(stream)
    assert seqs == [e.seq for e in server.log.events]
    assert said == ["Let me roll.", "A six 🎲!"]
    assert stream.run is not None
    assert stream.run.id == "run_1"
    assert server.count("SendMessage") == 1


async def test_events_that_come_again_are_dropped(server: FakeHearth, client: AsyncHearth) -> None:
    server.log = RunLog(PLAIN)
    server.replays_all = True
    server.breaks = [Break(6), Break(4), Break(8)]
    seqs, said, _ = await read(client.runs.send("hi", agent_id="agent_1"))
    assert seqs == [e.seq for e in server.log.events]
    assert said == ["Let me roll.", "A six 🎲!"]


async def test_a_lost_acceptance_starts_one_run(server: FakeHearth, client: AsyncHearth) -> None:
    server.log = RunLog(PLAIN)
    server.lose_acceptance = 2
    seqs, _, _ = await read(client.runs.send("hi", agent_id="agent_1"))
    assert seqs == [e.seq for e in server.log.events]
    assert server.count("SendMessage") == 3
    assert len(server.run_ids) == 1


async def test_connections_that_are_reset(server: FakeHearth) -> None:
    async with CuttingProxy(server.port) as proxy, AsyncHearth(proxy.url, API_KEY, reconnect_for_s=10) as client:
        for point in range(len(PLAIN)):
            server.log = RunLog(PLAIN, pace_s=0.005)
            stream = client.runs.send("hi", agent_id="agent_1")
            assembler = MessageAssembler()
            seqs: list[int] = []
            seen = 0
            async for frame in stream:
                assembler.feed(frame)
                if frame.HasField("event"):
                    seqs.append(frame.event.seq)
                seen += 1
                if seen == point:
                    proxy.cut()
            assert seqs == [e.seq for e in server.log.events], point
            assert assembler.messages[-1].text == "A six 🎲!", point
        assert proxy.connections > len(PLAIN) // 2


async def test_a_restarted_server_is_found_again(client: AsyncHearth, server: FakeHearth) -> None:
    server.log = RunLog(PLAIN, hold_after=6)
    stream = client.runs.send("hi", agent_id="agent_1")
    first = [await anext(stream) for _ in range(6)]
    await server.__aexit__()
    async with FakeHearth(log=RunLog(PLAIN), port=server.port) as successor:
        seqs, said, _ = await read(stream)
        assert [f.event.seq for f in first if f.HasField("event")] + seqs == [e.seq for e in successor.log.events]
        assert said[-1] == "A six 🎲!"


async def test_it_gives_up_when_patience_is_over(server: FakeHearth) -> None:
    server.log = RunLog(PLAIN)
    server.breaks = [Break(3)] + [Break(0)] * 100
    async with AsyncHearth(server.url, API_KEY, reconnect_for_s=0.5) as client:
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            await read(client.runs.send("hi", agent_id="agent_1"))
        assert time.monotonic() - began < 5


async def test_a_stream_that_the_server_refuses(server: FakeHearth, client: AsyncHearth) -> None:
    server.refuse_streams = explained(grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND", "no such run")
    with pytest.raises(NotFoundError) as caught:
        await read(client.runs.watch("run_none"))
    assert caught.value.reason == "RESOURCE_NOT_FOUND"
    assert server.count("WatchRun") == 1


async def test_a_message_goes_to_an_agent_or_a_conversation(client: AsyncHearth) -> None:
    with pytest.raises(ValueError, match="either"):
        client.runs.send("hi")


async def test_silence_is_a_broken_connection(server: FakeHearth) -> None:
    server.log = RunLog(PLAIN[:5])
    server.silent = True
    async with AsyncHearth(server.url, API_KEY, reconnect_for_s=5, silence_s=0.2) as client:
        stream = client.runs.send("hi", agent_id="agent_1")
        for _ in range(5):
            await anext(stream)
        await asyncio.sleep(0.4)
        server.log.frames = list(PLAIN)
        server.silent = False
        seqs, _, _ = await read(stream)
        assert seqs[-1] == server.log.events[-1].seq
        assert stream.reconnects >= 1


async def test_watching_a_run_that_is_over(server: FakeHearth, client: AsyncHearth) -> None:
    server.log = RunLog(PLAIN)
    seqs, _, _ = await read(client.runs.send("hi", agent_id="agent_1"))
    again, said, _ = await read(client.runs.watch("run_1"))
    assert again == seqs
    assert said == ["Let me roll.", "A six 🎲!"]
    nothing, _, _ = await read(client.runs.watch("run_1", after_seq=seqs[-1]))
    assert nothing == []


async def test_leaving_early_ends_the_call(server: FakeHearth, client: AsyncHearth) -> None:
    server.log = RunLog(PLAIN, hold_after=4)
    stream = client.runs.send("hi", agent_id="agent_1")
    await anext(stream)
    assert server.open_streams == 1
    await stream.aclose()
    await server.all_streams_left()


async def test_a_token_that_expires_while_watching(server: FakeHearth, client: AsyncHearth) -> None:
    server.log = RunLog(PLAIN)
    server.breaks = [Break(2)]
    stream = client.runs.send("hi", agent_id="agent_1")
    await anext(stream)
    server.expired_tokens.add(await client._connection.tokens.get())
    seqs, _, _ = await read(stream)
    assert seqs[-1] == server.log.events[-1].seq
    assert server.count("IssueToken") == 2
