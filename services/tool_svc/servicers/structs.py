"""google.protobuf.Struct and Value ⇄ plain JSON values."""

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf import struct_pb2

from chassis.errors import invalid_field

# Beyond it a double no longer counts every integer, so such a number stays what it is: a float.
_EXACT = 2**53


def from_struct(struct: struct_pb2.Struct, field: str) -> dict[str, Any]:
    """A plain dict; numbers without a fraction are ints. Raises InvalidArgument for numbers that JSON lacks."""
    return {key: _from_value(value, field) for key, value in struct.fields.items()}


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """The message of a plain dict."""
    return struct_pb2.Struct(fields={key: to_value(value) for key, value in values.items()})


def to_value(value: Any) -> struct_pb2.Value:
    """The message of a plain value. An integer too large for a double becomes text, half a surrogate pair `?`."""
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, int | float):
        try:
            return struct_pb2.Value(number_value=float(value))
        except OverflowError:
            return struct_pb2.Value(string_value=str(value))
    if isinstance(value, str):
        return struct_pb2.Value(string_value=clean(value))
    if isinstance(value, Mapping):
        return struct_pb2.Value(struct_value=to_struct({clean(str(key)): item for key, item in value.items()}))
    return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[to_value(item) for item in value]))


def clean(text: str) -> str:
    """Text as UTF-8 can carry it."""
    return text.encode("utf-8", "replace").decode()


def _from_value(value: struct_pb2.Value, field: str) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value, field)
    if kind == "list_value":
        return [_from_value(item, field) for item in value.list_value.values]
    if kind == "number_value":
        return _from_number(value.number_value, field)
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    return None


def _from_number(number: float, field: str) -> int | float:
    if not math.isfinite(number):
        raise invalid_field(field, "holds a number that JSON does not have")
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number
