"""JSON Schemas that callers give, and arguments checked against schemas: both may be hostile.

A schema never makes this process fetch anything, run a regular expression of a tenant's (`pattern` is for the model's
eyes; such an expression can take for ever), or work without end: keywords evaluated are counted.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import jsonschema
import jsonschema.validators
import referencing
import referencing.exceptions
from jsonschema import Draft202012Validator

from chassis.errors import FieldViolation, InvalidArgument

MAX_SCHEMA_BYTES = 64 * 1024
_MAX_STEPS = 50_000
_STEPS_AT_ONCE = 200
_TOO_COMPLEX = "the tool's schema is too complex to check these arguments against"
_MAX_VIOLATIONS = 10
_MAX_MESSAGE = 300
_PROPERTY_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
# What model providers refuse at the top of a tool's schema (OpenAI; Anthropic all but two of them).
_NOT_AT_THE_TOP = ("anyOf", "oneOf", "allOf", "not", "enum", "const")
# Their values are data, which may look like a schema.
_DATA = {"default", "const", "enum", "examples"}
_NOT_EVALUATED = {"pattern", "patternProperties", "$dynamicRef", "uniqueItems"}

_steps_left: ContextVar[int] = ContextVar("steps_left", default=0)


class _TooMuchWork(Exception):
    """The schema asks for more work than an honest one needs."""


def check_parameters(schema: Mapping[str, Any]) -> None:
    """Whether a schema can be a tool's `parameters`: a JSON Schema (2020-12), and one that model providers accept.

    A schema that they refuse would end every turn of every agent that has the tool. Raises InvalidArgument
    TOOL_SCHEMA_INVALID naming the place.
    """
    if schema.get("type") != "object":
        raise _schema_invalid("$.type", 'must be "object": arguments are given by name')
    for keyword in _NOT_AT_THE_TOP:
        if keyword in schema:
            raise _schema_invalid(
                f"$.{keyword}", "cannot stand at the top: model providers refuse it; put it into a property"
            )
    try:
        if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
            raise _schema_invalid("$", f"must be at most {MAX_SCHEMA_BYTES} bytes of JSON")
        Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise _schema_invalid(error.json_path, _short(error.message)) from None
    except RecursionError:
        raise _schema_invalid("$", "is nested too deeply") from None
    for name in schema.get("properties", {}):
        if not _PROPERTY_NAME.fullmatch(name):
            raise _schema_invalid("$.properties", f"{_short(repr(name))} is no name that model providers accept")
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise _schema_invalid("$", f"the reference {_short(repr(reference))} leaves the schema")
    if any(lacks_items(node) for node in _nodes(schema)):
        raise _schema_invalid(
            "$", 'an array says nothing of its items: model providers want `items`; write "items": {}'
        )


def with_items(schema: Any) -> Any:
    """The schema with `items: {}` for each array that says nothing of its items, which means the same."""
    if isinstance(schema, list):
        return [with_items(inner) for inner in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {key: value if key in _DATA else with_items(value) for key, value in schema.items()}
    return {**result, "items": {}} if lacks_items(schema) else result


def lacks_items(node: Mapping[str, Any]) -> bool:
    """Whether a schema is of an array of which nothing more is known."""
    kind = node.get("type")
    return (kind == "array" or (isinstance(kind, list) and "array" in kind)) and "items" not in node


def check_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Whether arguments fit a schema. Raises InvalidArgument TOOL_ARGUMENTS_INVALID with a violation for each place."""
    try:
        _check_arguments(schema, arguments, _MAX_STEPS)
    except _TooMuchWork:
        raise _arguments_invalid([FieldViolation("arguments", _TOO_COMPLEX)]) from None


async def check_arguments_aside(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """As `check_arguments`; what takes more than a moment is done in a thread, so that nobody else waits for it."""
    try:
        _check_arguments(schema, arguments, _STEPS_AT_ONCE)
    except _TooMuchWork:
        await asyncio.to_thread(check_arguments, schema, arguments)


def _check_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any], max_steps: int) -> None:
    _steps_left.set(max_steps)
    validator = _Validator(schema, registry=referencing.Registry())
    violations: list[FieldViolation] = []
    try:
        for error in validator.iter_errors(arguments):
            path = "arguments" + error.json_path.removeprefix("$")
            violations.append(FieldViolation(path, _short(error.message)))
            if len(violations) >= _MAX_VIOLATIONS:
                break
    except RecursionError:
        violations = [FieldViolation("arguments", _TOO_COMPLEX)]
    except referencing.exceptions.Unresolvable:
        violations = [FieldViolation("arguments", "the tool's schema refers to something that it does not hold")]
    if violations:
        raise _arguments_invalid(violations)


def _arguments_invalid(violations: list[FieldViolation]) -> InvalidArgument:
    first = violations[0]
    return InvalidArgument(
        f"{first.field}: {first.description}",
        reason="TOOL_ARGUMENTS_INVALID",
        field_violations=violations,
    )


# A keyword's check: validator, the keyword's value, what is checked, the whole schema.
_Keyword = Callable[[Any, Any, Any, Any], Any]


def _counted(keyword: _Keyword, cost: int) -> _Keyword:
    def evaluate(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        left = _steps_left.get() - cost
        if left < 0:
            raise _TooMuchWork
        _steps_left.set(left)
        return keyword(validator, value, instance, schema)

    return evaluate


def _unique_items(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[jsonschema.ValidationError]:
    """As the standard says, in linear time."""
    if value is True and isinstance(instance, list):
        seen = {json.dumps(item, sort_keys=True) for item in instance}
        if len(seen) != len(instance):
            yield jsonschema.ValidationError("has items that are equal")


def _keywords() -> dict[str, _Keyword]:
    known: dict[str, _Keyword] = dict(Draft202012Validator.VALIDATORS)
    kept = {name: keyword for name, keyword in known.items() if name not in _NOT_EVALUATED}
    # Following a reference takes ten times as long as anything else.
    costs = {"$ref": 10}
    return {
        name: _counted(keyword, costs.get(name, 1)) for name, keyword in {**kept, "uniqueItems": _unique_items}.items()
    }


_Validator = jsonschema.validators.create(
    meta_schema=Draft202012Validator.META_SCHEMA,
    validators=_keywords(),
    type_checker=Draft202012Validator.TYPE_CHECKER,
)


def _references(schema: Any) -> Iterator[str]:
    """Every `$ref`-like value and every `$id`, which would give references another base."""
    for node in _nodes(schema):
        for key in ("$ref", "$dynamicRef", "$recursiveRef", "$id"):
            if isinstance(value := node.get(key), str):
                yield value


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of a schema that is not data: schemas, and what holds them by name."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, Mapping):
            yield node
            pending += [value for key, value in node.items() if key not in _DATA]
        elif isinstance(node, list):
            pending += node


def _schema_invalid(path: str, problem: str) -> InvalidArgument:
    return InvalidArgument(
        f"parameters{path.removeprefix('$')}: {problem}",
        reason="TOOL_SCHEMA_INVALID",
        field_violations=(FieldViolation("parameters" + path.removeprefix("$"), problem),),
    )


def _short(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"
