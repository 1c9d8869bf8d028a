"""PROTOCOL.md against the code: every example is parsed or produced, every close code and limit is the one written."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from chassis.errors import FieldViolation, InvalidArgument, Unauthenticated
from gateway import frames, protocol
from gateway.interfaces import EncodedDelta

TEXT = (Path(protocol.__file__).parent / "PROTOCOL.md").read_text()
EXAMPLES: list[dict[str, Any]] = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.S)]
FROM_CLIENT = {"hello", "auth", "call", "subscribe", "unsubscribe", "ack", "ping", "pong"}


def of(kind: str) -> list[dict[str, Any]]:
    return [example for example in EXAMPLES if example["type"] == kind]


def test_every_message_has_an_example() -> None:
    from_server = {"welcome", "ok", "error", "event", "delta", "snapshot", "checkpoint", "reset", "end", "closing"}
    assert {example["type"] for example in EXAMPLES} == FROM_CLIENT | from_server | {"auth_expiring"}


@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if one["type"] in FROM_CLIENT], ids=lambda one: one["type"]
)
def test_client_examples_parse_completely(example: dict[str, Any]) -> None:
    message = protocol.parse(json.dumps(example).encode())
    assert not isinstance(message, protocol.BadMessage | protocol.BadFrame), message
    assert type(message).__name__.lower() == example["type"]
    for name, value in example.items():
        if name in {"type", "client"}:
            continue
        parsed = getattr(message, name)
        assert (json.loads(bytes(parsed)) if name == "params" else parsed) == value


def produced(example: dict[str, Any]) -> bytes:
    kind = example["type"]
    rest = {name: value for name, value in example.items() if name not in {"type", "sub"}}
    if kind == "welcome":
        return frames.welcome(example["id"], example["session"], example["token_expires"])
    if kind == "ok" and "result" in example:
        return frames.result(example["id"], json.dumps(example["result"]).encode())
    if kind == "ok":
        return frames.ok(example["id"], {name: value for name, value in rest.items() if name != "id"})
    if kind == "error":
        violations = [FieldViolation(one["field"], one["description"]) for one in example["field_violations"]]
        return frames.error(
            example["id"], InvalidArgument(example["message"], reason=example["reason"], field_violations=violations)
        )
    if kind == "event":
        where = (example["seq"], example["time"], example["run_id"], example["event"])
        event = (
            frames.omitted_event_body(*where) if "omitted" in example else frames.event_body(*where, example["data"])
        )
        return frames.head("event", example["sub"]) + event.body
    if kind in {"delta", "snapshot", "checkpoint"}:
        delta: EncodedDelta = frames.delta_body(kind, rest)
        return frames.head(delta.kind, example["sub"]) + delta.body
    if kind == "reset":
        return frames.reset(example["sub"], example["reason"])
    if kind == "end":
        error = example.get("error")
        problem = Unauthenticated(error["message"], reason=error["reason"]) if error else None
        return frames.end(example["sub"], example["reason"], problem)
    if kind == "auth_expiring":
        return frames.auth_expiring(example["token_expires"])
    return frames.closing(protocol.CloseCode(example["code"]), example["message"], example["retry_after_ms"])


@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if one["type"] not in FROM_CLIENT], ids=lambda one: one["type"]
)
def test_server_examples_are_what_the_encoder_makes(example: dict[str, Any]) -> None:
    assert json.loads(produced(example)) == example


def test_pings_are_as_written() -> None:
    assert [json.loads(frames.PING)] == of("ping")
    assert [json.loads(frames.PONG)] == of("pong")


def test_close_codes_are_those_of_the_table() -> None:
    written = {int(code): name for code, name in re.findall(r"^\| (4\d\d\d) \| (\w+) \|", TEXT, re.M)}
    assert written == {int(code): code.name for code in protocol.CloseCode if code is not protocol.CloseCode.NORMAL}
    for code in protocol.CloseCode:
        assert code.reconnect == (code >= 4500)


def test_limits_are_those_written() -> None:
    assert protocol.MAX_INBOUND_BYTES == 256 * 1024
    assert protocol.MAX_OUTBOUND_BYTES == 1024 * 1024
    assert "more than 16 calls" in TEXT
    assert protocol.MAX_CALLS == 16
    assert "more than 5,000 frames" in TEXT
    from gateway.session import MAX_FRAMES_PER_TICK

    assert MAX_FRAMES_PER_TICK == 5000
