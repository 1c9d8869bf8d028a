"""Each kind of annotation and docstring gets the schema that it means."""

import json
from typing import Any

import pytest

from chassis.errors import InvalidArgument
from tests.unit.tool_svc.provider_rules import refusals
from tool_svc.domain.schema import derive, find_entry

_IMPORTS = """
from __future__ import annotations
import collections.abc, dataclasses, datetime as dt, enum, typing as t, uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, Dict, List, Literal, Optional, Sequence, Tuple, TypedDict, Union
from typing import NewType
from typing_extensions import Doc, NotRequired
"""

STRING, INTEGER, NULL = {"type": "string"}, {"type": "integer"}, {"type": "null"}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        ("str", STRING),
        ("int", INTEGER),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("None", NULL),
        ("Any", {}),
        ("t.Any", {}),
        ("object", {}),
        ("'str'", STRING),
        ("list", {"type": "array", "items": {}}),
        ("list[str]", {"type": "array", "items": STRING}),
        ("List[int]", {"type": "array", "items": INTEGER}),
        ("Sequence[int]", {"type": "array", "items": INTEGER}),
        ("collections.abc.Iterable[int]", {"type": "array", "items": INTEGER}),
        ("list[list[int]]", {"type": "array", "items": {"type": "array", "items": INTEGER}}),
        ("set[str]", {"type": "array", "items": STRING, "uniqueItems": True}),
        ("tuple[int, ...]", {"type": "array", "items": INTEGER}),
        ("tuple[int, int]", {"type": "array", "items": INTEGER, "minItems": 2, "maxItems": 2}),
        ("tuple[()]", {"type": "array", "items": {}, "maxItems": 0}),
        (
            "Tuple[int, str]",
            {
                "type": "array",
                "prefixItems": [INTEGER, STRING],
                "items": {"anyOf": [INTEGER, STRING]},
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        ("dict", {"type": "object"}),
        ("dict[str, int]", {"type": "object", "additionalProperties": INTEGER}),
        ("Dict[str, Any]", {"type": "object", "additionalProperties": {}}),
        ("Optional[int]", {"anyOf": [INTEGER, NULL]}),
        ("int | None", {"anyOf": [INTEGER, NULL]}),
        ("'int | None'", {"anyOf": [INTEGER, NULL]}),
        ("Union[int, str, None]", {"anyOf": [INTEGER, STRING, NULL]}),
        ("Optional[Union[int, str]]", {"anyOf": [INTEGER, STRING, NULL]}),
        ("int | int", INTEGER),
        ("int | Any", {}),
        ("Literal['a', 'b']", {"type": "string", "enum": ["a", "b"]}),
        ("Literal[1, 'b', None]", {"enum": [1, "b", None]}),
        ("Literal[Color.RED]", {"type": "string", "enum": ["red"]}),
        ("Color", {"type": "string", "enum": ["red", "blue"]}),
        ("Level", {"type": "integer", "enum": [1, 2]}),
        ("Annotated[int, 'How many.']", {"type": "integer", "description": "How many."}),
        ("Annotated[int, Field(ge=1, lt=9)]", {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}),
        ("Annotated[str, Field(min_length=1)]", {"type": "string", "minLength": 1}),
        ("Annotated[list[str], Field(max_length=3)]", {"type": "array", "items": STRING, "maxItems": 3}),
        ("dt.datetime", {"type": "string", "format": "date-time"}),
        ("uuid.UUID", {"type": "string", "format": "uuid"}),
        ("Names", {"type": "array", "items": STRING}),
        ("UserId", INTEGER),
        ("Annotated[int, Doc('How many.')]", {"type": "integer", "description": "How many."}),
    ],
)
def test_annotation(annotation: str, schema: dict[str, Any]) -> None:
    source = f"""{_IMPORTS}
class Color(Enum):
    RED = "red"
    BLUE = "blue"
class Level(enum.IntEnum):
    LOW = enum.auto()
    HIGH = enum.auto()
Names = list[str]
UserId = NewType("UserId", int)
def f(x: {annotation}): ...
"""
    parameters = derive(source).parameters
    assert parameters["properties"] == {"x": schema}
    assert refusals(parameters) == []


def test_dataclass() -> None:
    source = f"""{_IMPORTS}
@dataclasses.dataclass
class Base:
    id: int
@dataclass(frozen=True)
class Point(Base):
    \"\"\"A point.

    Attributes:
        x: To the right.
    \"\"\"
    x: float
    y: float = 0.5
    tags: list[str] = field(default_factory=list)
    hidden: int = field(init=False)
    seed: dataclasses.InitVar[int] = 7
    count: t.ClassVar[int] = 3
def f(p: Point | None = None): ...
"""
    schema = derive(source).parameters["properties"]["p"]
    assert schema["default"] is None
    assert schema["anyOf"][0] == {
        "type": "object",
        "properties": {
            "id": INTEGER,
            "x": {"type": "number", "description": "To the right."},
            "y": {"type": "number", "default": 0.5},
            "tags": {"type": "array", "items": STRING},
            "seed": {"type": "integer", "default": 7},
        },
        "required": ["id", "x"],
        "additionalProperties": False,
    }


def test_pydantic_model() -> None:
    source = f"""{_IMPORTS}
import pydantic
from pydantic import BaseModel, ConfigDict, Field
class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sku: str = Field(min_length=1, description="What it is.")
    amount: int = Field(1, ge=1, le=99)
class Order(pydantic.BaseModel):
    \"\"\"An order.

    Attributes:
        note: For the driver.
    \"\"\"
    items: list[Item]
    paid_at: dt.datetime | None = None
    note: str = ""
    kind: Annotated[str, Field(pattern="^[a-z]+$")] = Field(..., alias="type")
    tags: list[str] = Field(default_factory=list, max_length=3)
    count: t.ClassVar[int] = 1
class Rush(Order):
    hours: float
def f(order: Rush): ...
"""
    derived = derive(source).parameters
    item = {
        "type": "object",
        "properties": {
            "sku": {"type": "string", "minLength": 1, "description": "What it is."},
            "amount": {"type": "integer", "minimum": 1, "maximum": 99, "default": 1},
        },
        "required": ["sku"],
        "additionalProperties": False,
    }
    assert derived["properties"]["order"] == {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": item},
            "paid_at": {"anyOf": [{"type": "string", "format": "date-time"}, NULL], "default": None},
            "note": {"type": "string", "default": "", "description": "For the driver."},
            "type": {"type": "string", "pattern": "^[a-z]+$"},
            "tags": {"type": "array", "items": STRING, "maxItems": 3},
            "hours": {"type": "number"},
        },
        "required": ["items", "type", "hours"],
        "additionalProperties": False,
    }
    assert refusals(derived) == []


def test_typed_dict() -> None:
    source = f"""{_IMPORTS}
class Whole(TypedDict):
    a: int
    b: NotRequired[str]
class Part(Whole, total=False):
    c: t.Required[int]
    d: int
def f(p: Part): ...
"""
    schema = derive(source).parameters["properties"]["p"]
    assert list(schema["properties"]) == ["a", "b", "c", "d"]
    assert schema["required"] == ["a", "c"]


def test_the_last_top_level_function_is_the_tool() -> None:
    source = "def helper(x): ...\nclass C:\n    def method(self): ...\nasync def tool(a: int): ...\nif True:\n    def no(): ..."
    assert derive(source).entry_point == "tool"


def test_defaults_and_kinds_of_parameters() -> None:
    source = f"""{_IMPORTS}
class Color(Enum):
    RED = "red"
def f(a: int, /, b: str = "x", *, c: Color = Color.RED, d: list[int] = [1], e: float = 1 / 3, g: bool): ...
"""
    parameters = derive(source).parameters
    assert parameters["required"] == ["a", "g"]
    defaults = {name: schema.get("default") for name, schema in parameters["properties"].items()}
    assert defaults == {"a": None, "b": "x", "c": "red", "d": [1], "e": None, "g": None}
    assert parameters["additionalProperties"] is False


_GOOGLE = """Does it.

    More of it.

    Args:
        a (int): First thing,
            on two lines.
        b: Second.

    Returns:
        Something.
"""
_NUMPY = """Does it.

    More of it.

    Parameters
    ----------
    a : int
        First thing,
        on two lines.
    b
        Second.
"""
_SPHINX = """Does it.

    More of it.

    :param int a: First thing,
        on two lines.
    :param b: Second.
    :returns: Something.
"""


@pytest.mark.parametrize("docstring", [_GOOGLE, _NUMPY, _SPHINX])
def test_docstring_styles(docstring: str) -> None:
    derived = derive(f'def f(a, b: str):\n    """{docstring}    """\n')
    assert derived.description == "Does it.\n\nMore of it."
    assert derived.parameters["properties"] == {
        "a": {"type": "integer", "description": "First thing, on two lines."},
        "b": {"type": "string", "description": "Second."},
    }


def test_nothing_is_executed() -> None:
    source = """
import os
raise SystemExit
class Color(str):
    os._exit(1)
def decorate(f): os._exit(1)
@decorate
def f(a: str = __import__("os")._exit(1), b: "__import__('os')._exit(1) or int" = 1): os._exit(1)
"""
    with pytest.raises(InvalidArgument, match=r"line 8, column 46: .*has no JSON Schema"):
        derive(source)
    assert derive(source.replace(""""__import__('os')._exit(1) or int" """, "int ")).parameters["required"] == []


@pytest.mark.parametrize(
    ("source", "line", "column", "says"),
    [
        ("def f(:", 1, 7, "syntax error"),
        ("", 1, 1, "no top-level function"),
        ("class A:\n    def f(self): ...", 1, 1, "no top-level function"),
        ("def f(a): ...", 1, 7, "`a` has no type; write `a: str`"),
        ("def f(*args: str): ...", 1, 8, "`args: list[str]`"),
        ("def f(**kw): ...", 1, 9, "`kw: dict[str, str]`"),
        ("\ndef f(a: bytes): ...", 2, 10, "`bytes` has no JSON Schema; write one of: str, int"),
        ("def f(a: Optional[int]): ...", 1, 10, "write `from typing import Optional`"),
        ("def f(a: Nothing): ...", 1, 10, "`Nothing` is not defined"),
        ("def f(a: 'not a type'): ...", 1, 10, "is not a type"),
        ("def f(a: dict[int, str]): ...", 1, 15, "`dict[str, …]`"),
        ("def f(a: list[int, str]): ...", 1, 10, "has no JSON Schema"),
        ("class C: ...\ndef f(a: C): ...", 1, 1, "a `TypedDict` or a pydantic `BaseModel`"),
        ("import x\nclass C(x.Y): ...\ndef f(a: C): ...", 2, 9, "no base"),
        ("A = list['A']\ndef f(a: A): ...", 1, 10, "refers to itself"),
        ("from typing import Literal\ndef f(a: Literal[f()]): ...", 2, 18, "Literal takes"),
        ("def f(ä: str): ...", 1, 7, "cannot be an argument's name"),
        ("def ä(): ...", 1, 1, "cannot be a tool's"),
        ("def f(a: 1 + 1): ...", 1, 10, "has no JSON Schema"),
        ("def f(a: list[" + "list[" * 60 + "int" + "]" * 61 + "): ...", 1, None, "nested too deeply"),
        ("from typing import *\ndef f(a: Union[" + "int," * 5000 + "]): ...", 2, None, "too large"),
        ("def f(a: str):\n    '''\\0'''", 1, 1, "NUL"),
        (
            "from typing import Literal\ndef f(a: Literal[" + ", ".join(f"'{n:0>99}'" for n in range(900)) + "]): ...",
            2,
            1,
            "bytes",
        ),
        ("from pydantic import RootModel\nclass C(RootModel[int]): ...\ndef f(a: C): ...", 2, 9, "no base"),
    ],
)
def test_what_cannot_be_read_is_named(source: str, line: int, column: int | None, says: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        derive(source)
    error = refused.value
    assert error.reason == "TOOL_SOURCE_INVALID"
    assert says in error.message
    assert error.metadata["line"] == str(line)
    assert column is None or error.metadata["column"] == str(column)


def test_aliases_that_double_are_stopped() -> None:
    lines = ["A0 = int", *(f"A{n} = tuple[{f'A{n - 1}, ' * 8} str]" for n in range(1, 8))]
    with pytest.raises(InvalidArgument, match="too large"):
        derive("\n".join(lines) + "\ndef f(a: A7): ...")


@pytest.mark.parametrize(
    "source", ["x" * 262_144, "(" * 262_144, "-" * 200_000 + "1", "a\0b", "def f(): " + "f()." * 60_000 + "x"]
)
def test_monstrous_sources_are_answered(source: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        derive(source)
    assert refused.value.reason == "TOOL_SOURCE_INVALID"


def test_entry_of_a_source_with_a_schema_of_its_own() -> None:
    entry = find_entry("def f(a, *, b=1, **rest):\n    'Does.'")
    assert (entry.name, entry.description, entry.parameter_names, entry.takes_any_name) == (
        "f",
        "Does.",
        {"a", "b"},
        True,
    )


def test_schemas_are_plain_json() -> None:
    derived = derive(f"{_IMPORTS}\ndef f(a: tuple[int, str] = (1, 'x'), b: set[int] = {{3}}): ...")
    assert json.loads(json.dumps(derived.parameters)) == derived.parameters
