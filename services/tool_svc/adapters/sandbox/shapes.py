"""Whether a JSON value has the shape of a Python type: which member of a union an argument is meant for."""

import dataclasses
import datetime
import decimal
import enum
import pathlib
import types
import typing
import uuid
from typing import Any

_TEXTS = (datetime.datetime, datetime.date, datetime.time, uuid.UUID, pathlib.Path)
_PLAIN: dict[Any, Any] = {None: type(None), type(None): type(None), str: str, bool: bool, dict: dict}
_NUMBERS: dict[Any, Any] = {int: int, float: int | float, decimal.Decimal: int | float | str}
_LISTS = (list, tuple, set, frozenset)


def may_be(value: Any, hint: Any) -> bool:
    """Whether `value` can be converted to `hint`. True for types that nothing is known of."""
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return may_be(value, parameters[0])
    if origin in (typing.Union, types.UnionType):
        return any(may_be(value, member) for member in parameters)
    if origin is typing.Literal:
        return any(_same(value, one.value if isinstance(one, enum.Enum) else one) for one in parameters)
    if isinstance(hint, typing.NewType):
        return may_be(value, hint.__supertype__)
    if (origin or hint) in _LISTS:
        return isinstance(value, list) and _items_may_be(value, origin or hint, parameters)
    if origin is dict:
        return isinstance(value, dict) and all(may_be(item, parameters[1]) for item in value.values())
    return _may_be_plain(value, hint)


def _may_be_plain(value: Any, hint: Any) -> bool:
    if hint in _PLAIN:
        return isinstance(value, _PLAIN[hint])
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool)
    if hint in _TEXTS:
        return isinstance(value, str)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return any(_same(value, member.value) for member in hint)
    if typing.is_typeddict(hint):
        return _fields_may_be(value, hint, hint.__required_keys__)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _fields_may_be(value, hint, _required(hint))
    if hasattr(hint, "model_validate"):
        return isinstance(value, dict)
    return True


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other


def _items_may_be(value: list[Any], kind: Any, parameters: tuple[Any, ...]) -> bool:
    if not parameters:
        return True
    if kind is not tuple or parameters[1:] == (Ellipsis,):
        return all(may_be(item, parameters[0]) for item in value)
    return len(value) == len(parameters) and all(map(may_be, value, parameters))


def _fields_may_be(value: Any, hint: Any, required: typing.Collection[str]) -> bool:
    if not isinstance(value, dict):
        return False
    hints = typing.get_type_hints(hint)
    return set(required) <= set(value) <= set(hints) and all(may_be(item, hints[name]) for name, item in value.items())


def _required(hint: Any) -> set[str]:
    return {
        field.name
        for field in dataclasses.fields(hint)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
