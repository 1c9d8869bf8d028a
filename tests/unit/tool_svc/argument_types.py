"""Types of arguments, drawn at random: as Python writes them, as JSON values, and what a function must then receive.

`Drawn.fits` is written from the meaning of the Python types alone, so it can contradict the schema.
"""

import dataclasses
import datetime
import enum
import json
import types
import typing
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

PRELUDE = """
import dataclasses, datetime, typing, uuid
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Annotated, Literal, NewType, Optional, TypedDict, Union

class Color(Enum):
    RED = "red"
    BLUE = "blue"

class Level(IntEnum):
    LOW = 1
    HIGH = 2

@dataclass
class Point:
    x: int
    y: str = ""

@dataclass
class Line:
    start: Point
    others: list[Point] = field(default_factory=list)

class Size(TypedDict, total=False):
    width: typing.Required[int]
    height: float

Count = NewType("Count", int)
Names = list[str]
"""


@dataclass(frozen=True)
class Drawn:
    """A type: its annotation, JSON values of it, and whether any JSON value is one of it."""

    annotation: str
    values: st.SearchStrategy[Any]
    fits: Callable[[Any], bool]

    def __repr__(self) -> str:
        return self.annotation


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([0.5, -1.5]),
        st.sampled_from(["", "a", "red", "1"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["x", "y", "a", "start", "width", "height"]), inner, max_size=3),
    ),
    max_leaves=5,
)
_TEXT = st.text("ab1é", max_size=3)
_INTEGER = st.integers(-3, 3)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _one_of(*choices: Any) -> Callable[[Any], bool]:
    return lambda value: any(type(value) is type(choice) and value == choice for choice in choices)


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and "x" in value
        and set(value) <= {"x", "y"}
        and _is_integer(value["x"])
        and isinstance(value.get("y", ""), str)
    )


def _is_line(value: Any) -> bool:
    if not (isinstance(value, dict) and "start" in value and set(value) <= {"start", "others"}):
        return False
    others = value.get("others", [])
    return _is_point(value["start"]) and isinstance(others, list) and all(map(_is_point, others))


def _is_size(value: Any) -> bool:
    if not (isinstance(value, dict) and "width" in value and set(value) <= {"width", "height"}):
        return False
    return _is_integer(value["width"]) and _is_number(value.get("height", 0.5))


_POINTS = st.fixed_dictionaries({"x": _INTEGER}, optional={"y": _TEXT})
_SIMPLE = (
    Drawn("str", _TEXT, lambda value: isinstance(value, str)),
    Drawn("int", _INTEGER, _is_integer),
    Drawn("Count", _INTEGER, _is_integer),
    Drawn("float", st.one_of(_INTEGER, st.just(0.5)), _is_number),
    Drawn("bool", st.booleans(), lambda value: isinstance(value, bool)),
    Drawn("None", st.none(), lambda value: value is None),
    Drawn("Literal['a', 1, True]", st.sampled_from(["a", 1, True]), _one_of("a", 1, True)),
    Drawn("Color", st.sampled_from(["red", "blue"]), _one_of("red", "blue")),
    Drawn("Level", st.sampled_from([1, 2]), _one_of(1, 2)),
    Drawn("Point", _POINTS, _is_point),
    Drawn(
        "Line", st.fixed_dictionaries({"start": _POINTS}, optional={"others": st.lists(_POINTS, max_size=2)}), _is_line
    ),
    Drawn("Size", st.fixed_dictionaries({"width": _INTEGER}, optional={"height": st.just(0.5)}), _is_size),
    Drawn("Names", st.lists(_TEXT, max_size=2), lambda v: isinstance(v, list) and all(isinstance(i, str) for i in v)),
)
_HASHABLE = _SIMPLE[:4]


def _list(item: Drawn) -> Drawn:
    return Drawn(
        f"list[{item.annotation}]",
        st.lists(item.values, max_size=3),
        lambda value: isinstance(value, list) and all(map(item.fits, value)),
    )


def _variadic(item: Drawn) -> Drawn:
    return dataclasses.replace(_list(item), annotation=f"tuple[{item.annotation}, ...]")


def _set(item: Drawn) -> Drawn:
    def fits(value: Any) -> bool:
        if not (isinstance(value, list) and all(map(item.fits, value))):
            return False
        return len({json.dumps(one) for one in value}) == len(value)

    return Drawn(f"set[{item.annotation}]", st.lists(item.values, max_size=3, unique_by=json.dumps), fits)


def _mapping(item: Drawn) -> Drawn:
    return Drawn(
        f"dict[str, {item.annotation}]",
        st.dictionaries(_TEXT, item.values, max_size=3),
        lambda value: isinstance(value, dict) and all(map(item.fits, value.values())),
    )


def _fixed(items: list[Drawn]) -> Drawn:
    def fits(value: Any) -> bool:
        if not (isinstance(value, list) and len(value) == len(items)):
            return False
        return all(item.fits(one) for item, one in zip(items, value, strict=True))

    values = st.tuples(*(item.values for item in items)).map(list)
    return Drawn(f"tuple[{', '.join(item.annotation for item in items)}]", values, fits)


def _union(members: list[Drawn]) -> Drawn:
    return Drawn(
        f"Union[{', '.join(member.annotation for member in members)}]",
        st.one_of(*(member.values for member in members)),
        lambda value: any(member.fits(value) for member in members),
    )


def _optional(item: Drawn) -> Drawn:
    return Drawn(f"Optional[{item.annotation}]", st.one_of(st.none(), item.values), lambda v: v is None or item.fits(v))


def _annotated(item: Drawn) -> Drawn:
    return dataclasses.replace(item, annotation=f"Annotated[{item.annotation}, 'Said of it.']")


TYPES: st.SearchStrategy[Drawn] = st.recursive(
    st.sampled_from(_SIMPLE),
    lambda inner: st.one_of(
        inner.map(_list),
        inner.map(_variadic),
        st.sampled_from(_HASHABLE).map(_set),
        inner.map(_mapping),
        st.lists(inner, min_size=1, max_size=3).map(_fixed),
        st.lists(inner, min_size=2, max_size=3).map(_union),
        inner.map(_optional),
        inner.map(_annotated),
    ),
    max_leaves=4,
)


def is_of(value: Any, hint: Any) -> bool:
    """Whether what a function received is an instance of its annotation, all the way down."""
    origin, parameters = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return is_of(value, parameters[0])
    if origin in (typing.Union, types.UnionType):
        return any(is_of(value, member) for member in parameters)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in parameters)
    if origin in (list, set):
        return isinstance(value, origin) and all(is_of(one, parameters[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(is_of(one, parameters[1]) for one in value.values())
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = parameters[:1] * len(value) if parameters[1:] == (Ellipsis,) else parameters
        return all(is_of(one, kind) for one, kind in zip(value, kinds, strict=True))
    if hint is None or hint is type(None):
        return value is None
    if isinstance(hint, typing.NewType):
        return is_of(value, hint.__supertype__)
    if typing.is_typeddict(hint):
        kinds = typing.get_type_hints(hint)
        return isinstance(value, dict) and all(is_of(one, kinds[name]) for name, one in value.items())
    if dataclasses.is_dataclass(hint):
        kinds = typing.get_type_hints(hint)
        return isinstance(value, hint) and all(is_of(getattr(value, name), kind) for name, kind in kinds.items())  # pyright: ignore[reportArgumentType]
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    assert issubclass(hint, str | int | bool | enum.Enum | datetime.datetime | uuid.UUID)
    return isinstance(value, hint)
