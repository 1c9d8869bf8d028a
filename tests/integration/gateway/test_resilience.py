"""What happens when somebody is slow, goes away, or is restarted; and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
import signal
import socket as sockets
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.interfaces import Topic
from gateway.sync_client import ClosedError, SyncClient
from hearth.agent.v1 import event_pb2
from tests.fakes.scripted_hearth import ScriptedHearth, service_key_file
from tests.integration.gateway.conftest import Client, Harness
from tests.integration.gateway.test_messages import events, fill


def grow(conversation: Any, count: int, size: int = 10) -> None:
    for _ in range(count):
        conversation.append("run_x", step_restarted=event_pb2.StepRestarted(cause="x" * size))


def gateway_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "gateway" in repr(task.get_coro())}


async def test_agent_svc_restart_is_only_a_pause(harness: Harness) -> None:
    conversation = fill(harness, 3)
    client = await harness.connect()
    await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    assert await events(client, 3) == [1, 2, 3]
    await harness.hearth.stop()
    grow(conversation, 2)
    await harness.hearth.start()
    grow(conversation, 2)
    assert await events(client, 4) == [4, 5, 6, 7]
    assert harness.world.subscribed[-1].after_seq >= 3


async def test_many_cuts_of_the_stream_lose_and_repeat_nothing(harness: Harness) -> None:
    conversation = fill(harness, 0)
    clients = [await harness.connect() for _ in range(3)]
    for client in clients:
        await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)

    async def cut() -> None:
        for _ in range(4):
            grow(conversation, 50)
            await harness.hearth.stop()
            grow(conversation, 50)
            await harness.hearth.start()
            await asyncio.sleep(0.05)

    cutting = asyncio.create_task(cut())
    for seqs in await asyncio.gather(*(events(client, 400) for client in clients)):
        assert seqs == list(range(1, 401))
    await cutting


async def test_subscribing_while_agent_svc_is_down_waits_or_says_so(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await harness.connect()
    conversation = fill(harness, 1)
    topic = f"conversation:{conversation.id}"
    await harness.hearth.stop()
    await client.send(type="subscribe", id=70, sub="waits", topic=topic, after_seq=0)
    await asyncio.sleep(0.3)
    await harness.hearth.start()
    assert (await client.receive())["id"] == 70
    await client.receive()
    await harness.hearth.stop()
    monkeypatch.setattr("gateway.requests.SUBSCRIBE_SECONDS", 0.5)
    answer = await client.request("subscribe", sub="fails", topic=topic, after_seq=0)
    assert (answer["code"], answer["reason"]) == ("UNAVAILABLE", "DEPENDENCY_UNAVAILABLE")


async def test_a_reader_that_never_acknowledges_gets_a_window_and_then_the_rest(harness: Harness) -> None:
    conversation = fill(harness, 2000)
    client = await harness.connect()
    await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    first = [await client.receive() for _ in range(256)]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.socket.receive(), 0.3)
    await harness.eventually(lambda: harness.world.live == 0)
    assert [frame["seq"] for frame in first] == list(range(1, 257))
    again = await harness.connect()
    await again.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=256)
    assert await events(again, 1744) == list(range(257, 2001))


async def test_a_late_acknowledgement_opens_the_window_again(harness: Harness) -> None:
    conversation = fill(harness, 1000)
    client = await harness.connect()
    await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    for _ in range(256):
        await client.receive()
    await client.send(type="ack", sub="c", seq=256)
    assert await events(client, 744) == list(range(257, 1001))


async def test_deltas_lost_while_behind_come_back_as_a_snapshot(harness: Harness) -> None:
    conversation = fill(harness, 300)
    client = await harness.connect()
    await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    for _ in range(256):
        await client.receive()
    await asyncio.sleep(0.1)
    conversation.delta("run_x", "msg_x", "one ")
    conversation.delta("run_x", "msg_x", "two")
    await asyncio.sleep(0.1)
    await client.send(type="ack", sub="c", seq=256)
    assert await events(client, 44) == list(range(257, 301))
    snapshot = await client.receive()
    assert (snapshot["type"], snapshot["text"]) == ("snapshot", "one two")


async def test_a_slow_reader_slows_nobody_else_and_is_cut_after_a_stall(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.websocket.STALL_SECONDS", 1.0)
    conversation = fill(harness, 0)
    topic = f"conversation:{conversation.id}"
    slow = await harness.connect()
    await slow.request("subscribe", sub="c", topic=topic, after_seq=0)
    transport = slow.transport  # the test is the peer that does not read
    transport.pause_reading()
    quick = await harness.connect()
    await quick.request("subscribe", sub="c", topic=topic, after_seq=0)
    reading = asyncio.create_task(events(quick, 250))
    for _ in range(25):
        grow(conversation, 10, size=40_000)
        await asyncio.sleep(0.01)
    assert await asyncio.wait_for(reading, 8) == list(range(1, 251))
    held = max(client._bytes for client in harness.built.gateway._sessions.values())
    assert held <= 1024 * 1024 + 50_000
    await harness.eventually(lambda: harness.built.gateway.connections == 1)
    transport.resume_reading()


async def test_disconnects_of_every_kind_leave_nothing(harness: Harness) -> None:
    conversation = fill(harness, 5)
    before = gateway_tasks()
    for kind in range(12):
        client = await harness.connect()
        await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
        await client.send(type="subscribe", id=90, sub="pending", topic=f"conversation:{conversation.id}")
        await client.send(type="call", id=91, method="agent.ListModels")
        if kind % 4 == 0:
            await client.socket.close()
        elif kind % 4 == 1:
            client.transport.abort()
        elif kind % 4 == 2:
            await client.socket.send_str("nonsense")
            await client.closed()
        else:
            await client.socket.close(code=1001, message=b"leaving")
    gateway = harness.built.gateway
    hub = harness.built.hub
    await harness.eventually(lambda: gateway.connections == 0 and harness.world.live == 0)
    assert hub.subscriptions == 0
    assert not hub._clients
    assert harness.built.watches.count == 0
    await harness.eventually(lambda: len(gateway_tasks() - before) <= 2)  # the streams themselves stay


async def test_a_passing_fault_of_one_subscription_is_tried_again(harness: Harness) -> None:
    conversation = fill(harness, 2)
    harness.world.hiccups = 2
    client = await harness.connect()
    opened = await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    assert opened["resumed"] is True
    assert await events(client, 2) == [1, 2]


async def test_revoked_subscription_ends(harness: Harness) -> None:
    conversation = fill(harness, 1)
    token = harness.world.tokens.issue()
    client = await harness.connect(token)
    await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=1)
    harness.world.revoked.add(token)
    await harness.hearth.stop()
    await harness.hearth.start()
    ended = await client.until(lambda frame: frame["type"] == "end")
    assert ended[-1]["reason"] == "revoked"
    assert ended[-1]["error"]["code"] == "UNAUTHENTICATED"


async def test_synchronous_client_follows_beside_sockets(harness: Harness) -> None:
    conversation = fill(harness, 0)
    hub = harness.built.hub
    identity = await harness.built.services.verifier(harness.world.tokens.issue())
    loop = asyncio.get_running_loop()
    client = SyncClient(loop.call_soon_threadsafe, capacity=16)
    opened = asyncio.Event()
    hub.subscribe(
        client,
        name="sync",
        topic=Topic("conversation", conversation.id),
        after_seq=0,
        identity=lambda: identity,
        on_opened=lambda *_: opened.set(),
        on_failed=lambda error: (_ for _ in ()).throw(error),
    )
    await asyncio.wait_for(opened.wait(), 5)

    def read() -> list[int]:
        return [client.receive(timeout=8)["seq"] for _ in range(200)]

    reading = asyncio.create_task(asyncio.to_thread(read))
    grow(conversation, 200)
    assert await reading == list(range(1, 201))
    hub.release(client)
    from gateway.protocol import CloseCode

    client.close(CloseCode.NORMAL, announce=False)
    with pytest.raises(ClosedError):
        client.receive(timeout=1)


async def test_drain_tells_everybody_when_to_come_back(harness: Harness) -> None:
    clients = [await harness.connect() for _ in range(5)]
    conversation = fill(harness, 1)
    await clients[0].request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    await clients[0].receive()
    draining = asyncio.create_task(harness.built.gateway.drain())
    ends = [await client.closed() for client in clients]
    await draining
    assert [code for _, code in ends] == [4503] * 5
    waits = sorted(closing["retry_after_ms"] for closing, _ in ends if closing)
    assert waits == [0, 5000, 10000, 15000, 20000]
    assert all(closing and closing["reconnect"] for closing, _ in ends)
    late = await harness.dial()
    assert (await late.closed())[1] == 4503
    async with harness.http.get(f"{harness.origin}/healthz") as answer:
        assert answer.status == 503


async def test_process_serves_and_drains_on_sigterm(hearth: ScriptedHearth, tmp_path: Path) -> None:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "HEARTH_LISTEN": f"127.0.0.1:{port}",
        "HEARTH_SERVICE_KEY_FILE": str(service_key_file(tmp_path)),
        "HEARTH_ENVIRONMENT": "development",
        **{f"HEARTH_{name}_SVC_ADDRESS": hearth.address for name in ("USER", "TOOL", "MEMORY", "AGENT")},
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(20):
            url = f"http://127.0.0.1:{port}"
            await until_healthy(http, url)
            async with http.get(url) as page:
                assert page.status == 200
            socket = await http.ws_connect(f"{url}/v1/socket", protocols=("hearth.v1",), origin=url)
            client = Client(socket)
            assert (await client.request("hello", token=hearth.world.tokens.issue()))["type"] == "welcome"
            process.send_signal(signal.SIGTERM)
            closing, code = await client.closed()
            assert code == 4503
            assert closing is not None
            out, log = await process.communicate()
        assert process.returncode == 0, log.decode()
        assert out == b""
        assert b"Traceback" not in log
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_healthy(http: aiohttp.ClientSession, url: str) -> None:
    while True:
        try:
            async with http.get(f"{url}/healthz") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.1)


async def test_process_without_settings_says_what_is_missing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env={}, stderr=asyncio.subprocess.PIPE
    )
    _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert b"HEARTH_USER_SVC_ADDRESS" in log
