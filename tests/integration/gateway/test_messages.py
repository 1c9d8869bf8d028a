"""An open session: calls, subscriptions, resume, broadcast, and what wrong messages get."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import uuid4

import pytest

from chassis import ids
from hearth.agent.v1 import event_pb2
from tests.fakes.scripted_hearth import ModelServicer
from tests.fakes.scripted_world import STRANGERS
from tests.integration.gateway.conftest import Client, Harness


def fill(harness: Harness, count: int) -> Any:
    """A conversation with `count` events."""
    conversation = harness.world.conversation()
    for number in range(count):
        conversation.append("run_x", step_restarted=event_pb2.StepRestarted(cause=f"event {number + 1}"))
    return conversation


def is_event(name: str) -> Any:
    return lambda frame: frame["type"] == "event" and frame["event"] == name


async def events(client: Client, count: int) -> list[int]:
    """The seqs of the next `count` events; acknowledges each."""
    seqs: list[int] = []
    while len(seqs) < count:
        frame = await client.receive()
        assert frame["type"] != "closed"
        if frame["type"] == "event":
            seqs.append(frame["seq"])
            await client.send(type="ack", sub=frame["sub"], seq=frame["seq"])
    return seqs


async def test_a_run_streams_from_question_to_answer(harness: Harness) -> None:
    agent = harness.world.agent()
    client = await harness.connect()
    topic = f"conversation:{agent.default_conversation_id}"
    opened = await client.request("subscribe", sub="c", topic=topic, after_seq=0)
    assert opened == {"type": "ok", "id": opened["id"], "resumed": True, "head_seq": 0, "first_seq": 1}
    started = await client.request("call", method="agent.StartRun", params={"agentId": agent.id, "text": "hello there"})
    run_id = started["result"]["run"]["id"]
    assert started["result"]["run"]["state"] == "RUN_STATE_QUEUED"
    frames = await client.until(is_event("run_succeeded"))
    names = [frame["event"] for frame in frames if frame["type"] == "event"]
    assert names[-2:] == ["message_completed", "run_succeeded"]
    text = "".join(frame["text"] for frame in frames if frame["type"] == "delta")
    completed = [frame for frame in frames if frame.get("event") == "message_completed"][-1]
    assert text == completed["data"]["message"]["text"]
    assert "🐕" in text
    last = frames[-1]
    assert last["run_id"] == run_id
    assert last["data"]["usage"]["input_tokens"] == 2**53 + 1, "64-bit integers are JSON numbers"


async def test_run_topic_ends_with_the_run(harness: Harness) -> None:
    agent = harness.world.agent()
    client = await harness.connect()
    started = await client.request("call", method="agent.StartRun", params={"agent_id": agent.id, "text": "hi"})
    await client.request("subscribe", sub="r", topic=f"run:{started['result']['run']['id']}", after_seq=0)
    frames = await client.until(lambda frame: frame["type"] == "end")
    assert frames[-1]["reason"] == "complete"
    assert frames[-2]["event"] == "run_succeeded"
    assert harness.built.hub.subscriptions == 0


async def test_subscriber_in_the_middle_of_a_message_begins_with_a_snapshot(harness: Harness) -> None:
    conversation = fill(harness, 3)
    conversation.delta("run_x", "msg_x", "Hello 🐕 ")
    client = await harness.connect()
    await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=3)
    snapshot = await client.receive()
    assert (snapshot["type"], snapshot["kind"], snapshot["offset"], snapshot["text"]) == (
        "snapshot",
        "text",
        0,
        "Hello 🐕 ",
    )
    conversation.delta("run_x", "msg_x", "world")
    delta = await client.receive()
    assert (delta["type"], delta["offset"], delta["text"]) == ("delta", 8, "world")


@pytest.mark.parametrize(("after", "expected"), [(0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, []), (None, [])])
async def test_resume_brings_exactly_what_is_missing(harness: Harness, after: int | None, expected: list[int]) -> None:
    conversation = fill(harness, 5)
    client = await harness.connect()
    where = {} if after is None else {"after_seq": after}
    opened = await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", **where)
    assert (opened["resumed"], opened["head_seq"]) == (True, 5)
    conversation.append("run_x", run_queued=event_pb2.RunQueued())
    assert await events(client, len(expected) + 1) == [*expected, 6]


@pytest.mark.parametrize("after", [1, 99])
async def test_resume_that_cannot_be_gapless_says_so(harness: Harness, after: int) -> None:
    conversation = fill(harness, 5)
    conversation.first_seq = 4
    client = await harness.connect()
    opened = await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=after)
    assert (opened["resumed"], opened["first_seq"], opened["head_seq"]) == (False, 4, 5)
    again = await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=3)
    assert again["resumed"] is True, "the name is free again"
    assert await events(client, 2) == [4, 5]


async def test_every_socket_of_a_conversation_gets_every_event_encoded_once(harness: Harness) -> None:
    conversation = fill(harness, 0)
    clients = [await harness.connect() for _ in range(3)]
    for client in clients:
        await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    encoder = harness.built.encoder
    before = encoder.encoded
    for _ in range(20):
        conversation.append("run_x", run_queued=event_pb2.RunQueued())
    for client in clients:
        assert await events(client, 20) == list(range(1, 21))
    assert encoder.encoded - before == 20


async def test_unsubscribe_stops_and_frees(harness: Harness) -> None:
    conversation = fill(harness, 1)
    client = await harness.connect()
    await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=1)
    assert (await client.request("unsubscribe", sub="c"))["type"] == "ok"
    conversation.append("run_x", run_queued=event_pb2.RunQueued())
    assert (await client.request("unsubscribe", sub="c"))["code"] == "NOT_FOUND"
    await harness.eventually(lambda: harness.world.live == 0)


async def test_strangers_get_the_same_not_found_as_for_nothing(harness: Harness) -> None:
    conversation = fill(harness, 1)
    stranger = await harness.connect(harness.world.tokens.issue(STRANGERS))
    foreign = await stranger.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    missing_id = ids.encode("conv", ids.new())
    missing = await stranger.request("subscribe", sub="c", topic=f"conversation:{missing_id}", after_seq=0)
    malformed = await stranger.request("subscribe", sub="c", topic="conversation:Robert'); DROP", after_seq=0)
    for answer in (foreign, missing, malformed):
        assert (answer["type"], answer["code"], answer["reason"]) == ("error", "NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert foreign["message"].replace(conversation.id, "") == missing["message"].replace(missing_id, "")


async def test_one_bad_subscription_does_not_disturb_others_of_the_stream(harness: Harness) -> None:
    conversation = fill(harness, 0)
    client = await harness.connect()
    await client.request("subscribe", sub="good", topic=f"conversation:{conversation.id}", after_seq=0)
    for number in range(5):
        await client.request("subscribe", sub=f"bad{number}", topic=f"run:{ids.encode('run', ids.new())}")
    conversation.append("run_x", run_queued=event_pb2.RunQueued())
    assert await events(client, 1) == [1]


async def test_subscription_limit_and_names(harness: Harness) -> None:
    conversation = fill(harness, 0)
    client = await harness.connect()
    topic = f"conversation:{conversation.id}"
    for number in range(64):
        assert (await client.request("subscribe", sub=f"s{number}", topic=topic))["type"] == "ok"
    assert (await client.request("subscribe", sub="s1", topic=topic))["code"] == "ALREADY_EXISTS"
    assert (await client.request("subscribe", sub="more", topic=topic))["code"] == "RESOURCE_EXHAUSTED"
    await client.socket.close()
    await harness.eventually(lambda: harness.world.live == 0 and harness.built.gateway.connections == 0)


async def test_calls_answer_with_proto_json(harness: Harness) -> None:
    agent = harness.world.agent()
    client = await harness.connect()
    listed = await client.request("call", method="agent.ListAgents", params={"pageSize": 10})
    assert listed["result"]["agents"][0]["default_conversation_id"] == agent.default_conversation_id
    assert listed["result"]["agents"][0]["create_time"].endswith("Z")
    assert (await client.request("call", method="agent.ListModels"))["result"]["models"][0]["default"] is True


@pytest.mark.parametrize(
    ("method", "params", "code", "reason"),
    [
        ("agent.Nonsense", {}, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
        ("agent.Watch", {}, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
        ("user.IssueToken", {"api_key": "x"}, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
        ("memory.CompileContext", {}, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
        ("agent.ListAgents", [], "INVALID_ARGUMENT", "VALIDATION_FAILED"),
        ("agent.ListAgents", {"page_size": "many"}, "INVALID_ARGUMENT", "VALIDATION_FAILED"),
        ("agent.ListAgents", {"page_size": -1}, "INVALID_ARGUMENT", "VALIDATION_FAILED"),
        ("agent.ListAgents", {"nonsense": 1}, "INVALID_ARGUMENT", "VALIDATION_FAILED"),
        ("agent.GetConversation", {"conversation_id": "conv_x"}, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        ("agent.UpdateAgent", {}, "INVALID_ARGUMENT", "VALIDATION_FAILED"),
        ("memory.GetBlock", {"block_id": "x"}, "UNIMPLEMENTED", "NOT_IMPLEMENTED"),
    ],
)
async def test_failed_calls_say_why(harness: Harness, method: str, params: Any, code: str, reason: str) -> None:
    client = await harness.connect()
    answer = await client.request("call", method=method, params=params)
    assert (answer["type"], answer["code"], answer["reason"]) == ("error", code, reason)


async def test_field_violations_are_named(harness: Harness) -> None:
    client = await harness.connect()
    answer = await client.request("call", method="agent.ListAgents", params={"page_size": -1})
    assert answer["field_violations"][0]["field"] == "page_size"


async def test_request_id_makes_a_call_idempotent(harness: Harness) -> None:
    agent = harness.world.agent()
    client = await harness.connect()
    call = {"method": "agent.StartRun", "params": {"agent_id": agent.id, "text": "once"}, "request_id": str(uuid4())}
    first, second = await client.request("call", **call), await client.request("call", **call)
    assert first["result"] == second["result"]


async def test_timeout_of_a_call(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(self: Any, request: Any, context: Any) -> None:
        await asyncio.sleep(5)

    await harness.hearth.stop()
    monkeypatch.setattr(ModelServicer, "ListModels", slow)
    await harness.hearth.start()
    client = await harness.connect()
    answer = await client.request("call", method="agent.ListModels", timeout_ms=200)
    assert answer["code"] == "DEADLINE_EXCEEDED"


async def test_too_large_an_answer_is_an_error(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.world.agent("x" * 1_100_000)
    client = await harness.connect()
    answer = await client.request("call", method="agent.ListAgents")
    assert (answer["code"], answer["reason"]) == ("OUT_OF_RANGE", "RESULT_TOO_LARGE")


async def test_too_large_an_event_comes_without_its_data(harness: Harness) -> None:
    conversation = fill(harness, 0)
    conversation.append("run_x", step_restarted=event_pb2.StepRestarted(cause="x" * 1_100_000))
    conversation.append("run_x", run_queued=event_pb2.RunQueued())
    client = await harness.connect()
    await client.request("subscribe", sub="c", topic=f"conversation:{conversation.id}", after_seq=0)
    large, small = await client.receive(), await client.receive()
    assert (large["seq"], large["event"], large["data"], large["omitted"]) == (1, "step_restarted", None, "too_large")
    assert small["seq"] == 2


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("", 4400),
        ("nonsense", 4400),
        ("[]", 4400),
        ("{}", 4400),
        ('{"type": 5}', 4400),
        ('{"type":"ping"} trailing', 4400),
        ('{"type":"call","id":1,"params":' + "[" * 5000 + "]" * 5000 + "}", 4400),
        ('{"type":"call","id":1,"method":"' + "x" * 270_000 + '"}', 4413),
    ],
)
async def test_what_is_no_frame_closes(harness: Harness, frame: str, code: int) -> None:
    client = await harness.connect()
    await client.socket.send_str(frame)
    closing, closed = await client.closed()
    assert closed == code
    assert closing is not None
    assert closing["code"] == code


async def test_frames_far_too_large_end_the_connection_unread(harness: Harness) -> None:
    client = await harness.connect()
    with contextlib.suppress(ConnectionError):
        await client.socket.send_str("x" * 2_000_000)
    closing, _ = await client.closed()
    assert closing is None or closing["code"] == 4413
    await harness.eventually(lambda: harness.built.gateway.connections == 0)


async def test_binary_frames_close(harness: Harness) -> None:
    client = await harness.connect()
    await client.socket.send_bytes(b'{"type":"ping"}')
    assert (await client.closed())[1] == 4400


@pytest.mark.parametrize(
    ("frame", "number"),
    [
        ('{"type":"dance","id":7}', 7),
        ('{"type":"dance"}', None),
        ('{"type":"call","id":7}', 7),
        ('{"type":"call","method":"user.WhoAmI"}', None),
        ('{"type":"call","id":-7,"method":"user.WhoAmI"}', None),
        ('{"type":"subscribe","id":7,"sub":"","topic":"run:run_1"}', 7),
        ('{"type":"subscribe","id":7,"sub":"s","topic":"planet:mars"}', 7),
        ('{"type":"subscribe","id":7,"sub":"s","topic":"run:run_1","after_seq":-1}', 7),
        ('{"type":"subscribe","id":7,"sub":"s","topic":"run:run_1","after_seq":1.5}', 7),
        ('{"type":"ack","sub":"s","seq":"1"}', None),
        ('{"type":"hello","id":7,"token":"again"}', 7),
        ('{"type":"subscribe","id":7,"sub":"s","topic":"workflow_run:wfrun_1"}', 7),
    ],
)
async def test_wrong_messages_are_errors_and_the_session_goes_on(
    harness: Harness, frame: str, number: int | None
) -> None:
    client = await harness.connect()
    await client.socket.send_str(frame)
    answer = await client.receive()
    assert answer["type"] == "error"
    assert answer.get("id") == number
    assert answer["code"] in {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
    await client.send(type="ping")
    assert (await client.receive())["type"] == "pong"


async def test_unknown_fields_are_ignored(harness: Harness) -> None:
    client = await harness.connect()
    assert (await client.request("call", method="user.WhoAmI", later={"a": [1]}))["type"] == "ok"


async def test_reusing_an_id_under_way_closes(harness: Harness) -> None:
    await harness.hearth.stop()
    client_token = harness.world.tokens.issue()
    await harness.hearth.start()
    client = await harness.connect(client_token)
    for _ in range(2):
        await client.send(type="call", id=50, method="user.WhoAmI")
    frames = await client.until(lambda frame: frame["type"] == "closing")
    assert frames[-1]["code"] == 4400


async def test_a_flood_of_frames_closes(harness: Harness) -> None:
    client = await harness.connect()
    with contextlib.suppress(ConnectionError):
        for _ in range(30_000):
            await client.send(type="pong")
    assert (await client.closed())[1] == 4429


async def test_too_many_calls_at_once_are_refused(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await harness.connect()
    for number in range(100, 140):
        await client.send(type="call", id=number, method="agent.ListModels")
    answers: dict[int, dict[str, Any]] = {}
    while len(answers) < 40:
        frame = await client.receive()
        answers[frame["id"]] = frame
    refused = [frame for frame in answers.values() if frame["type"] == "error"]
    assert {frame["reason"] for frame in refused} <= {"RATE_LIMITED"}
    assert len(refused) < 40
