"""Schemas that answers are held to, and answers held to them: hostile ones end quickly."""

from __future__ import annotations

import json
import time

import pytest

from agent_svc.domain.output_schema import BadSchema, check, mismatch

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0}, "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}}},
    "required": ["n"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string", "maxLength": 3}},
}


@pytest.mark.parametrize("answer", ['{"n": 0}', ' {"n": 1, "tags": ["a", "abc"]}\n'])
def test_what_matches(answer: str) -> None:
    check(json.dumps(SCHEMA))
    assert mismatch(SCHEMA, answer) == ""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("", "not one JSON value"),
        ("three", "not one JSON value"),
        ('```json\n{"n": 1}\n```', "not one JSON value"),
        ('{"n": 1} {"n": 2}', "not one JSON value"),
        ("[" * 100_000, "not one JSON value"),
        ("[]", "is not of type 'object'"),
        ("{}", "'n' is a required property"),
        ('{"n": -1}', "at $.n"),
        ('{"n": 1, "tags": ["abcd"]}', "at $.tags[0]"),
        ('{"n": 1, "more": 2}', "Additional properties"),
    ],
)
def test_what_does_not(answer: str, says: str) -> None:
    assert says in mismatch(SCHEMA, answer)


@pytest.mark.parametrize(
    "schema",
    [
        "",
        "nonsense",
        '"object"',
        "{}",
        '{"type":["object","null"]}',
        '{"type":"object","required":"n"}',
        '{"type":"object","$id":"https://example.org/"}',
        '{"type":"object","properties":{"a":{"$ref":"file:///etc/passwd"}}}',
        '{"type":"object","properties":' * 5000,
    ],
)
def test_what_is_no_schema(schema: str) -> None:
    with pytest.raises(BadSchema):
        check(schema)


def test_hostile_schemas_end_quickly() -> None:
    begun = time.monotonic()
    regex = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    check(json.dumps(regex))
    assert mismatch(regex, json.dumps({"a": "a" * 40 + "!"})) == ""  # Not evaluated, as the API says.
    endless = {"type": "object", "$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    check(json.dumps(endless))
    assert "too complex" in mismatch(endless, "{}")
    places = {
        "a": {"anyOf": [{"$ref": "#/$defs/b"}] * 90},
        "b": {"anyOf": [{"$ref": "#/$defs/c"}] * 90},
        "c": {"anyOf": [{"type": "string"}] * 90},
    }
    bomb = {"type": "object", "anyOf": [{"$ref": "#/$defs/a"}], "$defs": places}
    assert "too complex" in mismatch(bomb, "{}")
    missing = {"type": "object", "$ref": "#/$defs/nowhere"}
    assert "does not hold" in mismatch(missing, "{}")
    assert time.monotonic() - begun < 5
