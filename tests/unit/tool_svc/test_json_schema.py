"""Schemas and arguments from strangers: refused by name, never fetched, never endless."""

import time
from typing import Any

import pytest

from chassis.errors import InvalidArgument
from tool_svc.domain.json_schema import check_arguments, check_parameters, with_items


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({}, "parameters.type"),
        ({"type": "array"}, "parameters.type"),
        ({"type": "object", "properties": []}, "parameters.properties"),
        ({"type": "object", "required": "x"}, "parameters.required"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "parameters.properties.a.type"),
        ({"type": "object", "properties": {"a b": {}}}, "parameters.properties"),
        ({"type": "object", "$ref": "http://localhost/x"}, "parameters"),
        ({"type": "object", "$id": "http://localhost/x", "properties": {"a": {"$ref": "x"}}}, "parameters"),
        ({"type": "object", "description": "x" * 70_000}, "parameters"),
        ({"type": "object", "anyOf": [{"required": ["a"]}]}, "parameters.anyOf"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "parameters"),
        ({"type": "object", "properties": {"a": {"type": ["null", "array"]}}}, "parameters"),
    ],
)
def test_what_cannot_be_a_tools_schema(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_parameters(schema)
    assert refused.value.reason == "TOOL_SCHEMA_INVALID"
    assert refused.value.field_violations[0].field == place


def test_an_array_without_items_gets_them() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "default": [{"type": "array"}]}, "b": {"anyOf": [{"type": "array"}]}},
    }
    repaired = with_items(schema)
    check_parameters(repaired)
    assert repaired["properties"] == {
        "a": {"type": "array", "items": {}, "default": [{"type": "array"}]},
        "b": {"anyOf": [{"type": "array", "items": {}}]},
    }


def test_nesting_has_an_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(3000):
        schema = {"not": schema}
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        check_parameters({"type": "object", "properties": {"a": schema}})


def test_references_within_the_schema_work() -> None:
    schema = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/node"}},
        "$defs": {
            "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}
        },
    }
    check_parameters(schema)
    check_arguments(schema, {"tree": {"next": {"next": {"n": 1}}}})
    with pytest.raises(InvalidArgument) as refused:
        check_arguments(schema, {"tree": {"next": {"n": "x"}}})
    assert refused.value.field_violations[0].field == "arguments.tree.next.n"


def _exploding() -> dict[str, Any]:
    """Each definition uses the next one twice."""
    definitions: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    definitions["d40"] = {"type": "integer"}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}


@pytest.mark.parametrize(
    ("schema", "arguments"),
    [
        (_exploding(), {"a": 1}),
        ({"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}}, {"a": 1}),
        ({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, {"a": 1}),
    ],
)
def test_schemas_without_end_are_refused_soon(schema: dict[str, Any], arguments: dict[str, Any]) -> None:
    check_parameters(schema)
    started = time.monotonic()
    with pytest.raises(InvalidArgument) as refused:
        check_arguments(schema, arguments)
    assert refused.value.reason == "TOOL_ARGUMENTS_INVALID"
    assert time.monotonic() - started < 5


def test_regular_expressions_of_strangers_do_not_run() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    check_parameters(schema)
    started = time.monotonic()
    check_arguments(schema, {"a": "a" * 64 + "b"})
    assert time.monotonic() - started < 1


def test_unique_items_in_linear_time() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    started = time.monotonic()
    check_arguments(schema, {"a": [{"n": n} for n in range(20_000)]})
    assert time.monotonic() - started < 2
    with pytest.raises(InvalidArgument):
        check_arguments(schema, {"a": [{"x": 1, "y": 2}, {"y": 2, "x": 1}]})


def test_violations_are_many_but_not_endless() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    with pytest.raises(InvalidArgument) as refused:
        check_arguments(schema, {"a": ["x" * 10_000] * 100})
    assert len(refused.value.field_violations) == 10
    assert all(len(violation.description) <= 300 for violation in refused.value.field_violations)
