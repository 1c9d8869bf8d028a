"""JSON Schemas that callers ask answers to match, and answers checked against them: both may be hostile.

A schema never makes this process fetch anything, run a regular expression of a tenant's, or work without end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, cast

import jsonschema
import jsonschema.validators
import referencing
import referencing.exceptions
from jsonschema import Draft202012Validator

_MAX_STEPS = 10_000
_MAX_MESSAGE = 300
# Shown to the model, not checked here: such an expression can take for ever, and comparing all items costs their square.
_NOT_CHECKED = {"pattern", "patternProperties", "$dynamicRef", "uniqueItems"}

_steps: ContextVar[int] = ContextVar("output_schema_steps", default=0)


class BadSchema(ValueError):
    """The text is no schema that an answer can be held to; it says why, in words that go behind a field's name."""


class _TooMuchWork(Exception):
    """The schema asks for more work than an honest one needs."""


def parsed(text: str) -> Mapping[str, Any]:
    """The schema in a text that was checked before."""
    return json.loads(text)


def check(text: str) -> None:
    """Raises BadSchema unless the text is a self-contained JSON Schema of type object."""
    try:
        schema: Any = json.loads(text)
        if not isinstance(schema, dict) or cast("dict[str, Any]", schema).get("type") != "object":
            raise BadSchema('must be a JSON Schema whose type is "object"')
        Draft202012Validator.check_schema(schema)
        references = list(_references(schema))
    except BadSchema:
        raise
    except jsonschema.SchemaError as error:
        raise BadSchema(f"is no valid JSON Schema at {error.json_path}: {_short(error.message)}") from None
    except RecursionError:
        raise BadSchema("is nested too deeply") from None
    except ValueError as error:
        raise BadSchema(f"is not JSON: {_short(str(error))}") from None
    for reference in references:
        if not reference.startswith("#"):
            raise BadSchema(f"refers to {_short(repr(reference))}, outside of itself")


def mismatch(schema: Mapping[str, Any], answer: str) -> str:
    """What is wrong with an answer, for the model and for a person; empty when it matches."""
    try:
        value: Any = json.loads(answer)
    except (ValueError, RecursionError) as error:
        return f"it is not one JSON value ({_short(str(error))})"
    _steps.set(0)
    try:
        error = next(iter(_Validator(schema, registry=referencing.Registry()).iter_errors(value)), None)
    except (_TooMuchWork, RecursionError):
        return "the schema is too complex to check an answer against"
    except referencing.exceptions.Unresolvable:
        return "the schema refers to something that it does not hold"
    return "" if error is None else f"at {error.json_path}: {_short(error.message)}"


def _counted(keyword: Callable[..., Any], cost: int) -> Callable[..., Any]:
    def evaluate(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        steps = _steps.get() + cost
        if steps > _MAX_STEPS:
            raise _TooMuchWork
        _steps.set(steps)
        return keyword(validator, value, instance, schema)

    return evaluate


def _keywords() -> dict[str, Callable[..., Any]]:
    known: dict[str, Any] = dict(Draft202012Validator.VALIDATORS)
    # Following a reference takes ten times as long as anything else.
    return {
        name: _counted(keyword, 10 if name == "$ref" else 1)
        for name, keyword in known.items()
        if name not in _NOT_CHECKED
    }


_Validator = jsonschema.validators.create(
    meta_schema=Draft202012Validator.META_SCHEMA,
    validators=_keywords(),
    type_checker=Draft202012Validator.TYPE_CHECKER,
)


def _references(schema: Any) -> Iterator[str]:
    """Every `$ref`-like value, and every `$id`, which would give references another base."""
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            for key, value in cast("dict[str, Any]", node).items():
                if key in ("$ref", "$dynamicRef", "$recursiveRef", "$id") and isinstance(value, str):
                    yield value
                pending.append(value)
        elif isinstance(node, list):
            pending += cast("list[Any]", node)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"
