"""Values that a source writes down: literals, members of its enumerations. Read, never evaluated."""

import ast
import math
from typing import Any

from tool_svc.domain.schema.module import Module


class Unreadable(Exception):
    """The expression is not a literal that JSON has."""


def literal(node: ast.expr, module: Module) -> Any:
    """The JSON value of an expression. Raises Unreadable."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in module.classes:
        for name, value in enum_members(module.classes[node.value.id], module):
            if name == node.attr:
                return value
        raise Unreadable
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise Unreadable from None
    return _plain(value)


def is_enum(node: ast.ClassDef, module: Module) -> bool:
    """Whether a class of the source is an enumeration."""
    return any((module.dotted(base) or "").startswith("enum.") for base in node.bases)


def enum_members(node: ast.ClassDef, module: Module) -> list[tuple[str, Any]]:
    """Names and values of an enumeration, in order. Raises Unreadable at a value that is not a literal."""
    counts_names = any(module.dotted(base) == "enum.StrEnum" for base in node.bases)
    members: list[tuple[str, Any]] = []
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if not name.startswith("_"):
                members.append((name, _member(name, value, members, module, counts_names)))
            case _:
                pass
    return members


def _member(name: str, value: ast.expr, before: list[tuple[str, Any]], module: Module, counts_names: bool) -> Any:
    if isinstance(value, ast.Call) and module.dotted(value.func) == "enum.auto":
        if counts_names:
            return name.lower()
        numbers = [known for _, known in before if isinstance(known, int)]
        return max(numbers, default=0) + 1
    return literal(value, module)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise Unreadable
