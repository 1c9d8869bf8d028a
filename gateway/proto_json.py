"""Protobuf messages as JSON values: the canonical mapping, except that 64-bit integers are numbers and fields keep their proto names."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

_Convert = Callable[[Any], Any]

_WRAPPERS: Final = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String")
)
_FLOATS: Final = frozenset({FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT})

# Descriptors are never unloaded, so this grows to the number of message types and no further.
_plans: dict[str, dict[int, _Convert]] = {}


def to_value(message: Message) -> Any:
    """The message as dicts, lists, strings and numbers for a JSON encoder; unset fields are absent."""
    return _message(message)


def _message(message: Message) -> Any:
    descriptor = cast(Descriptor, message.DESCRIPTOR)
    name = descriptor.full_name
    if name.startswith("google.protobuf."):
        return _well_known(message, name)
    plan = _plans.get(name)
    if plan is None:
        plan = {field.number: _converter(field) for field in descriptor.fields}
        _plans[name] = plan
    return {field.name: plan[field.number](value) for field, value in message.ListFields()}


def _well_known(message: Message, name: str) -> Any:
    if name in _WRAPPERS:
        return cast(Any, message).value
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _converter(field: FieldDescriptor) -> _Convert:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return partial(_map, _scalar(kind.fields_by_name["value"]))
    convert = _scalar(field)
    if field.is_repeated:
        return partial(_list, convert)
    return convert


def _scalar(field: FieldDescriptor) -> _Convert:
    if field.message_type is not None:
        return _message
    if field.enum_type is not None:
        return partial(_enum, field.enum_type)
    if field.type in _FLOATS:
        return _float
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes
    return _same


def _list(convert: _Convert, values: Any) -> list[Any]:
    return [convert(value) for value in values]


def _map(convert: _Convert, values: Any) -> dict[str, Any]:
    return {_key(key): convert(value) for key, value in values.items()}


def _key(key: Any) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)


def _enum(kind: EnumDescriptor, number: int) -> Any:
    value = kind.values_by_number.get(number)
    return number if value is None else value.name


def _float(value: float) -> Any:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _same(value: Any) -> Any:
    return value
