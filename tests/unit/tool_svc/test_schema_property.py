"""The derived schema accepts exactly the calls that Python would bind with values of the annotated types."""

import inspect
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.errors import InvalidArgument
from tool_svc.domain import json_schema
from tool_svc.domain.schema import derive

# Annotation → values of that type as JSON has them, and values of no such type.
_TEXT = st.text(max_size=5)
_INTEGER = st.integers(-5, 5)
_TYPES: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "str": (_TEXT, st.one_of(_INTEGER, st.none(), st.booleans())),
    "int": (_INTEGER, st.one_of(_TEXT, st.just(0.5), st.booleans(), st.none())),
    "float": (st.one_of(_INTEGER, st.just(0.5)), st.one_of(_TEXT, st.booleans(), st.none())),
    "bool": (st.booleans(), st.one_of(st.just(0), _TEXT, st.none())),
    "None": (st.none(), st.one_of(st.just(0), _TEXT)),
    "list[int]": (st.lists(_INTEGER), st.one_of(_INTEGER, st.lists(_TEXT, min_size=1))),
    "tuple[int, str]": (
        st.tuples(_INTEGER, _TEXT).map(list),
        st.one_of(st.just([]), st.just([1]), st.just([1, "x", "y"]), st.just(["x", 1])),
    ),
    "set[int]": (st.sets(_INTEGER).map(sorted), st.one_of(st.just([1, 1]), st.just(["x"]))),
    "dict[str, int]": (st.dictionaries(_TEXT, _INTEGER), st.one_of(_INTEGER, st.just({"a": "x"}), st.just([]))),
    "int | None": (st.one_of(_INTEGER, st.none()), st.one_of(_TEXT, st.just(0.5))),
    "Optional[str]": (st.one_of(_TEXT, st.none()), st.one_of(_INTEGER, st.just([]))),
    "Union[int, list[str]]": (st.one_of(_INTEGER, st.lists(_TEXT)), st.one_of(_TEXT, st.just([1]), st.none())),
    "Literal['a', 2]": (st.sampled_from(["a", 2]), st.one_of(st.just("b"), st.just(3), st.none())),
    "Color": (st.sampled_from(["red", "blue"]), st.one_of(st.just("RED"), _INTEGER, st.none())),
    "Point": (
        st.fixed_dictionaries({"x": _INTEGER}, optional={"y": _TEXT}),
        st.one_of(st.just({}), st.just({"x": 1, "z": 1}), st.just({"x": "1"}), st.just([])),
    ),
}
_PRELUDE = """
import dataclasses
from enum import Enum
from typing import Literal, Optional, Union
class Color(Enum):
    RED = "red"
    BLUE = "blue"
@dataclasses.dataclass
class Point:
    x: int
    y: str = ""
"""
_KINDS = ("positional only", "either", "keyword only")


@st.composite
def signatures(draw: st.DrawFn) -> list[tuple[str, str, str, bool]]:
    """Name, kind, annotation, whether it has a default; in an order that Python accepts."""
    count = draw(st.integers(0, 6))
    kinds = sorted((draw(st.sampled_from(_KINDS)) for _ in range(count)), key=_KINDS.index)
    found: list[tuple[str, str, str, bool]] = []
    defaults_begun = False
    for number, kind in enumerate(kinds):
        has_default = draw(st.booleans())
        if kind != "keyword only":
            has_default = defaults_begun = has_default or defaults_begun
        found.append((f"p{number}", kind, draw(st.sampled_from(sorted(_TYPES))), has_default))
    return found


def source_of(signature: list[tuple[str, str, str, bool]]) -> str:
    parts: list[str] = []
    last_kind = ""
    for name, kind, annotation, has_default in signature:
        if last_kind == "positional only" and kind != last_kind:
            parts.append("/")
        if kind == "keyword only" and kind != last_kind:
            parts.append("*")
        parts.append(f"{name}: {annotation}" + (" = ..." if has_default else ""))
        last_kind = kind
    if last_kind == "positional only":
        parts.append("/")
    return f"{_PRELUDE}\ndef f({', '.join(parts)}): ..."


def binds(source: str, names: set[str]) -> bool:
    """Whether Python binds these names, positional-only ones by place."""
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    signature = inspect.signature(namespace["f"])
    if not names <= set(signature.parameters):
        return False
    return all(
        parameter.default is not inspect.Parameter.empty or name in names
        for name, parameter in signature.parameters.items()
    )


@settings(max_examples=300, deadline=None)
@given(signature=signatures(), data=st.data())
def test_accepts_exactly_what_python_binds(signature: list[tuple[str, str, str, bool]], data: st.DataObject) -> None:
    source = source_of(signature)
    parameters = derive(source).parameters
    arguments: dict[str, Any] = {}
    well_typed = True
    for name, _, annotation, _ in signature:
        choice = data.draw(st.sampled_from(["good", "good", "good", "absent", "bad"]), label=name)
        if choice == "absent":
            continue
        well_typed = well_typed and choice == "good"
        arguments[name] = data.draw(_TYPES[annotation][choice == "bad"], label=name)
    if data.draw(st.integers(0, 9)) == 0:
        arguments["unknown"] = 1
    expected = well_typed and binds(source, set(arguments))
    try:
        json_schema.check_arguments(parameters, arguments)
        accepted = True
    except InvalidArgument:
        accepted = False
    assert accepted is expected
