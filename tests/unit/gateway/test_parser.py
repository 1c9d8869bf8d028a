"""The parser: whatever bytes come, it answers and never raises."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import frames, protocol
from gateway.protocol import BadFrame, BadMessage, parse

TYPES = ["hello", "auth", "call", "subscribe", "unsubscribe", "ack", "ping", "pong", "nonsense", ""]
FIELDS = ["id", "token", "client", "method", "params", "request_id", "timeout_ms", "sub", "topic", "after_seq", "seq"]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["s", "run:run_1", "eyJ.e30.x", "agent.StartRun", "\u0000", "\u202e", "𝒳" * 300]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
objects = st.fixed_dictionaries({"type": st.sampled_from(TYPES)}, optional=dict.fromkeys(FIELDS, values))


def check(data: bytes) -> Any:
    message = parse(data)
    if isinstance(message, BadMessage):
        # What the client sent comes back in an answer that can be encoded.
        json.loads(frames.error(message.id, _error(message)))
    return message


def _error(message: BadMessage) -> Any:
    from chassis.errors import InvalidArgument

    return InvalidArgument(message.message, reason=message.reason, metadata={"type": message.type})


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    check(data)


@settings(max_examples=120, deadline=None)
@given(objects)
def test_any_object_with_a_type_is_answerable(value: dict[str, Any]) -> None:
    message = check(json.dumps(value).encode())
    assert not isinstance(message, BadFrame)
    if isinstance(message, BadMessage):
        number = value.get("id")
        valid = isinstance(number, int) and not isinstance(number, bool) and 1 <= number < 2**53
        assert message.id == (number if valid else None)


@settings(max_examples=150, deadline=None)
@given(objects, st.data())
def test_damaged_frames(value: dict[str, Any], data: st.DataObject) -> None:
    encoded = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    check(bytes(encoded))


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"call","id":1,"method":"m","params":' + b"[" * 100_000,
        b'{"type":"call","id":1,"method":"m","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":"call","id":1,"method":"m","params":' + b'{"a":' * 40_000 + b"1" + b"}" * 40_001,
        b"[" * 250_000,
        b'{"a":' * 50_000,
        b'{"type":"ping",' + b'"a":1,' * 40_000 + b'"b":1}',
        b'{"type":"hello","id":' + b"9" * 250_000 + b"}",
        b'{"type":"' + b"\\u0041" * 40_000 + b'"}',
    ],
)
def test_hostile_frames_are_answered_quickly(data: bytes) -> None:
    began = time.perf_counter()
    check(data)
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", BadFrame),
        (b"null", BadFrame),
        (b'"ping"', BadFrame),
        (b'{"id":1}', BadFrame),
        (b'{"type":null}', BadFrame),
        (b'{"type":"ping"}{"type":"ping"}', BadFrame),
        (b'{"type":"ack","sub":"\xff","seq":1}', BadFrame),
        (b'{"type":"ack","sub":"s","seq":-1}', BadMessage),
        (b'{"type":"ack","sub":"s","seq":9223372036854775808}', BadMessage),
        (b'{"type":"ack","sub":"' + b"s" * 65 + b'","seq":1}', BadMessage),
        (b'{"type":"call","id":1,"method":"m","timeout_ms":0}', BadMessage),
        (b'{"type":"call","id":1,"method":"m","timeout_ms":60001}', BadMessage),
        (b'{"type":"hello","id":1,"token":""}', BadMessage),
        (b'{"type":"PING"}', BadMessage),
        (b'{"type":"ping","junk":[1,{"a":null}]}', protocol.Ping),
        (b' {"seq":1,"sub":"s","type":"ack"} ', protocol.Ack),
    ],
)
def test_the_line_between_message_and_frame(data: bytes, kind: type) -> None:
    assert isinstance(parse(data), kind)
