"""JSON arguments to the parameters of a tool's function, and its result back to what JSON can carry.

Arguments arrive as JSON data. Where the annotation asks for a type JSON lacks (tuple, set, Enum, dataclass, datetime and the like), the value
is converted; everything else is passed as it is. This runs inside the sandbox, so resolving annotations may execute
code of the tool without harm.
"""

import dataclasses
import datetime
import decimal
import enum
import inspect
import pathlib
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

from tool_svc.adapters.sandbox import shapes

_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    uuid.UUID: uuid.UUID,
    decimal.Decimal: decimal.Decimal,
    pathlib.Path: pathlib.Path,
}


def bind(function: Callable[..., Any], arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments for a call. Raises TypeError as Python would for missing or unknown names."""
    remaining = dict(arguments)
    try:
        hints = typing.get_type_hints(function)
    except Exception:
        hints = {}  # An annotation that does not resolve says nothing; the value is passed as it came.
    positional: list[Any] = []
    skipped: list[Any] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in remaining and name in hints:
            remaining[name] = convert(remaining[name], hints[name])
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            continue
        if name in remaining:
            # Those left out before it take their places by their defaults.
            positional += [*skipped, remaining.pop(name)]
            skipped.clear()
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"{function.__name__}() missing a required argument: {name!r}")
        else:
            skipped.append(parameter.default)
    return positional, remaining


def convert(value: Any, hint: Any) -> Any:
    """`value` as the annotation `hint` asks for it, or unchanged where JSON and the annotation already agree."""
    origin = typing.get_origin(hint)
    parameters = typing.get_args(hint)
    if origin is typing.Annotated:
        return convert(value, parameters[0])
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, parameters)
    if origin is typing.Literal:
        return next((one for one in parameters if isinstance(one, enum.Enum) and one.value == value), value)
    if hint in _FROM_TEXT and isinstance(value, str):
        return _FROM_TEXT[hint](value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    if typing.is_typeddict(hint) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        return {key: convert(item, hints.get(key, Any)) for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        return hint(**{key: convert(item, hints.get(key, Any)) for key, item in value.items()})
    # A pydantic model: such a tool brings pydantic along, this process does not have it.
    if isinstance(value, dict) and (validate := getattr(hint, "model_validate", None)):
        return validate(value)
    if isinstance(hint, typing.NewType):
        return convert(value, hint.__supertype__)
    if isinstance(value, list):
        return _convert_sequence(value, origin or hint, parameters)
    if isinstance(value, dict) and origin is dict and len(parameters) == 2:
        return {key: convert(item, parameters[1]) for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    return value


def to_plain(value: Any) -> Any:
    """What `json.dumps` calls for a value it cannot write. Raises TypeError."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if dump := getattr(value, "model_dump", None):
        return dump(mode="json")
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | pathlib.PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a JSON type")


def _convert_union(value: Any, members: tuple[Any, ...]) -> Any:
    if value is None:
        return None
    candidates = [member for member in members if member is not type(None)]
    exact = [member for member in candidates if isinstance(member, type) and type(value) is member]
    likely = [member for member in candidates if shapes.may_be(value, member)]
    for member in exact or likely or candidates:
        try:
            return convert(value, member)
        except (TypeError, ValueError):
            continue
    return value


def _convert_sequence(value: list[Any], kind: Any, parameters: tuple[Any, ...]) -> Any:
    if kind is tuple:
        if len(parameters) == 2 and parameters[1] is Ellipsis:
            return tuple(convert(item, parameters[0]) for item in value)
        if len(parameters) == len(value):
            return tuple(convert(item, hint) for item, hint in zip(value, parameters, strict=True))
        return tuple(value)
    items = [convert(item, parameters[0]) for item in value] if len(parameters) == 1 else value
    if kind in (set, frozenset):
        return kind(items)
    return items
