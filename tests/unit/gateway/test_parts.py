"""The small parts: proto → JSON, the event encoder, origins, tickets, the callable methods."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import orjson
import pytest
from google.protobuf import json_format, struct_pb2, timestamp_pb2, wrappers_pb2

from chassis.errors import DomainError
from chassis.identity import Identity, Role
from gateway.calls import methods, parse_params
from gateway.encoder import FrameEncoder
from gateway.origins import OriginPolicy
from gateway.proto_json import to_value
from gateway.tickets import Tickets
from hearth.agent.v1 import agent_pb2, event_pb2, run_pb2
from hearth.memory.v1 import archival_memory_service_pb2

ME = Identity(UUID(int=1), "user_1", Role.MEMBER, "token")


def test_64_bit_integers_are_numbers_and_all_else_is_canonical() -> None:
    run = run_pb2.Run(id="run_1", state=run_pb2.RUN_STATE_FAILED, first_seq=2**62, steps=3)
    run.usage.input_tokens = 2**53 + 1
    run.create_time.FromJsonString("2026-01-31T12:00:01.250Z")
    value = to_value(run)
    assert orjson.loads(orjson.dumps(value)) == value
    assert (value["first_seq"], value["usage"]["input_tokens"]) == (2**62, 2**53 + 1)
    canonical = json_format.MessageToDict(run, preserving_proto_field_name=True)
    canonical["first_seq"] = int(canonical["first_seq"])
    canonical["usage"]["input_tokens"] = int(canonical["usage"]["input_tokens"])
    assert value == canonical
    assert json_format.ParseDict(value, run_pb2.Run()) == run


def test_maps_optionals_floats_unknown_enums_and_well_known_types() -> None:
    agent = agent_pb2.Agent(id="agent_1", metadata={"a": "b"}, tags=["x", "y"])
    agent.settings.temperature = 0.0
    agent.settings.passive_recall = False
    assert to_value(agent) == {
        "id": "agent_1",
        "metadata": {"a": "b"},
        "tags": ["x", "y"],
        "settings": {"temperature": 0.0, "passive_recall": False},
    }
    assert to_value(run_pb2.Run.FromString(bytes([0x28, 99]))) == {"state": 99}
    assert to_value(wrappers_pb2.Int64Value(value=2**60)) == 2**60
    nested = struct_pb2.Struct()
    nested.update({"a": [1, None, {"b": "c"}]})
    assert to_value(nested) == {"a": [1, None, {"b": "c"}]}
    assert to_value(timestamp_pb2.Timestamp(seconds=0)) == "1970-01-01T00:00:00Z"
    agent.settings.temperature = float("inf")
    assert to_value(agent)["settings"]["temperature"] == "Infinity"


def event(seq: int, **payload: Any) -> event_pb2.RunEvent:
    return event_pb2.RunEvent(seq=seq, run_id="run_1", conversation_id="conv_1", **payload)


def test_an_event_is_encoded_once_and_the_memory_for_it_is_bounded() -> None:
    encoder = FrameEncoder()
    one = event(1, run_queued=event_pb2.RunQueued())
    assert encoder.event(one) is encoder.event(one)
    assert encoder.encoded == 1
    for seq in range(2, 100):
        encoder.event(event(seq, step_restarted=event_pb2.StepRestarted(cause="x" * 500_000)))
    assert encoder._bytes <= 8 * 1024 * 1024
    assert sum(len(kept.body) for kept in encoder._events.values()) == encoder._bytes


def test_payload_of_a_newer_hearth_is_still_an_event() -> None:
    body = orjson.loads(b"{" + FrameEncoder().event(event(1)).body)
    assert (body["seq"], body["event"], body["data"]) == (1, "unknown", {})


def test_snapshot_becomes_one_frame_per_kind() -> None:
    snapshot = event_pb2.Snapshot(run_id="run_1", message_id="msg_1", attempt=2, text="a", reasoning="b")
    found = FrameEncoder().deltas(event_pb2.Frame(snapshot=snapshot))
    values = [orjson.loads(b"{" + one.body) for one in found]
    assert [(one["kind"], one["text"], one["offset"], one["attempt"]) for one in values] == [
        ("text", "a", 0, 2),
        ("reasoning", "b", 0, 2),
    ]


@pytest.mark.parametrize(
    ("origin", "host", "admitted"),
    [
        ("http://hearth.local:8080", "hearth.local:8080", True),
        ("https://hearth.example.org", "hearth.example.org", True),
        ("https://HEARTH.example.org", "hearth.example.org:443", True),
        ("http://hearth.example.org:80", "hearth.example.org", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("https://friend.example.org", "hearth.local", True),
        ("https://friend.example.org:444", "hearth.local", False),
        ("http://friend.example.org", "hearth.local", False),
        ("http://hearth.local:8081", "hearth.local:8080", False),
        ("http://hearth.local.evil.org", "hearth.local", False),
        ("http://user@hearth.local", "hearth.local", False),
        ("file://hearth.local", "hearth.local", False),
        ("null", "hearth.local", False),
        ("", "hearth.local", False),
        (None, "hearth.local", False),
        ("http://", "", False),
        ("http://[", "[", False),
        ("http://a:99999999", "a", False),
        ("http://hearth.local/path", "hearth.local", False),
    ],
)
def test_origins(origin: str | None, host: str, admitted: bool) -> None:
    assert OriginPolicy(frozenset({"https://friend.example.org"})).admits(origin, host) is admitted


def test_tickets_expire_and_are_used_once() -> None:
    times = itertools.chain([0.0, 0.0, 29.0], itertools.repeat(31.0))
    tickets = Tickets(lambda: next(times))
    first, second = tickets.issue(ME, "o"), tickets.issue(ME, "o")
    assert first != second
    assert tickets.redeem(first, "o") is ME
    for ticket in (first, second, "x"):
        with pytest.raises(DomainError):
            tickets.redeem(ticket, "o")


def test_a_ticket_tried_from_elsewhere_is_used_up() -> None:
    tickets = Tickets(lambda: 0.0)
    ticket = tickets.issue(ME, "https://a.example.org")
    for origin in ("https://b.example.org", "https://a.example.org"):
        with pytest.raises(DomainError):
            tickets.redeem(ticket, origin)


def test_tickets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.tickets._MAX_TICKETS", 3)
    now = 0.0
    tickets = Tickets(lambda: now)
    for _ in range(3):
        tickets.issue(ME, "o")
    with pytest.raises(DomainError):
        tickets.issue(ME, "o")
    now = 31.0
    tickets.issue(ME, "o")


def test_callable_methods_are_the_public_unary_ones() -> None:
    found = methods()
    assert found["agent.StartRun"].path == "/hearth.agent.v1.RunService/StartRun"
    assert found["memory.ListBlocks"].domain == "memory"
    for absent in ("user.IssueToken", "user.GetJwks", "agent.Watch", "agent.SendMessage", "tool.ExecuteTool"):
        assert absent not in found
    assert not [name for name in found if "internal" in found[name].path]
    assert len(found) >= 75


def test_params_take_either_spelling_and_refuse_the_rest() -> None:
    kind = archival_memory_service_pb2.ListPassagesRequest
    assert parse_params(kind, b'{"agentId":"a"}') == parse_params(kind, b'{"agent_id":"a"}')
    deep = b'{"agent_id":' + b"[" * 900 + b"]" * 900 + b"}"
    for params in (
        b"",
        b"[]",
        b"1",
        b'{"a":1}',
        b'{"agent_id":1}',
        b'{"agent_id":"\\ud800"}',
        deep,
        b'{"page_size":1e99}',
    ):
        with pytest.raises(DomainError) as caught:
            parse_params(kind, params)
        assert caught.value.reason == "VALIDATION_FAILED"
        assert len(caught.value.message) <= 300
