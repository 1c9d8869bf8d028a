"""A source → the tool it makes: name, description, and the JSON Schema of its arguments."""

import ast
import json
from dataclasses import dataclass
from typing import Any

from tool_svc.domain.json_schema import MAX_SCHEMA_BYTES
from tool_svc.domain.schema import classes, docstrings
from tool_svc.domain.schema.annotations import AnnotationReader
from tool_svc.domain.schema.module import entry_name, is_plain_name, parse, require_storable
from tool_svc.domain.schema.problems import source_invalid

_MAX_PARAMETERS = 128


@dataclass(frozen=True)
class DerivedTool:
    """What a source says of its tool. `parameters` is a JSON Schema (2020-12) of type object."""

    entry_point: str
    description: str
    parameters: dict[str, Any]


def derive(source: str) -> DerivedTool:
    """Read the last top-level function of a source; nothing of it is executed.

    Raises InvalidArgument TOOL_SOURCE_INVALID with line, column and what to write instead.
    """
    module = parse(source)
    function = module.entry
    name = entry_name(function)
    documented = docstrings.read(function)
    reader = AnnotationReader(module)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for argument, default in _parameters(function):
        annotation = argument.annotation or _documented_type(argument, documented)
        if annotation is None:
            raise source_invalid(argument, f"the parameter `{argument.arg}` has no type", f"`{argument.arg}: str`")
        schema = reader.schema(annotation)
        if argument.arg in documented.arguments:
            schema.setdefault("description", documented.arguments[argument.arg])
        classes.add_default(schema, default, module)
        properties[argument.arg] = schema
        if default is None:
            required.append(argument.arg)
    parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    text = json.dumps(parameters, ensure_ascii=False)
    require_storable(function, documented.description, text)
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise source_invalid(function, f"the schema has more than {MAX_SCHEMA_BYTES} bytes", "fewer or flatter types")
    return DerivedTool(name, documented.description, parameters)


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[tuple[ast.arg, ast.expr | None]]:
    """Each parameter with its default, in order."""
    arguments = function.args
    if arguments.vararg is not None:
        name = arguments.vararg.arg
        raise source_invalid(arguments.vararg, f"`*{name}` has no names", f"one parameter, as in `{name}: list[str]`")
    if arguments.kwarg is not None:
        name = arguments.kwarg.arg
        raise source_invalid(
            arguments.kwarg, f"`**{name}` has no types", f"`{name}: dict[str, str]`, or each parameter"
        )
    positional = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    found = list(zip(positional, [*missing, *arguments.defaults], strict=True))
    found += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    if len(found) > _MAX_PARAMETERS:
        raise source_invalid(function, f"there are more than {_MAX_PARAMETERS} parameters", "fewer")
    for argument, _ in found:
        if not is_plain_name(argument.arg):
            raise source_invalid(
                argument, f"`{argument.arg}` cannot be an argument's name", "ASCII, at most 64 characters"
            )
    return found


def _documented_type(argument: ast.arg, documented: docstrings.Documentation) -> ast.expr | None:
    """The type that the docstring gives a parameter, as if it had been written as an annotation."""
    text = documented.types.get(argument.arg)
    return None if text is None else ast.copy_location(ast.Constant(text), argument)
