"""One function of a Python file as a source of its own: with what it uses of the file, without the decorator.

Read from the text, never executed. What the function uses is found by name, so a helper, a class or an import comes
along when the function, or something that comes along, mentions it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hearth_client._tool_options import OPTIONS, problem_of

_PACKAGE = "hearth_client"
_DECORATOR = "tool"

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class DecoratedTool:
    """A function with the decorator: its name, and the options given to the decorator."""

    function: str
    options: dict[str, Any]


def decorated_tools(module_source: str) -> list[DecoratedTool]:
    """The functions of a file that have the decorator, in order. Empty for what is no Python: the server says why.

    Raises ValueError with line and column (both from 1) for an option that there is not, that is not written as a literal, or that is
    of the wrong type.
    """
    try:
        module = ast.parse(module_source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = _decorator_names(module)
    found: list[DecoratedTool] = []
    for node in module.body:
        if isinstance(node, _Function):
            ours = (decorator for decorator in node.decorator_list if _is_ours(decorator, names))
            found += [DecoratedTool(node.name, _options(decorator)) for decorator in ours]
    return found


def extract(module_source: str, function_name: str) -> str:
    """The source of one top-level function and of all that it needs. Raises ValueError when there is no such function."""
    try:
        module = ast.parse(module_source)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno}, column {error.offset}: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError("it is nested too deeply") from None
    functions = [node for node in module.body if isinstance(node, _Function) and node.name == function_name]
    if not functions:
        raise ValueError(f"there is no top-level function {function_name!r}")
    wanted = functions[-1]
    names = _decorator_names(module)
    kept = _needed(module, wanted, names)
    lines = module_source.splitlines()
    parts = [_text(node, lines, names) for node in module.body if node in kept and node is not wanted]
    return "\n".join([*parts, *([""] if parts else []), _text(wanted, lines, names)]) + "\n"


def _needed(module: ast.Module, wanted: _Function, names: set[str]) -> set[ast.stmt]:
    """The statements of the module that the function needs, itself included."""
    binding: dict[str, list[ast.stmt]] = {}
    kept: set[ast.stmt] = set()
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            kept.add(node)
        for name in _bound(node):
            binding.setdefault(name, []).append(node)
    pending: list[ast.stmt] = [wanted]
    while pending:
        node = pending.pop()
        if node in kept:
            continue
        kept.add(node)
        for name in _used(node, names):
            pending += binding.get(name, [])
    return kept


def _bound(node: ast.stmt) -> Iterator[str]:
    """The names that a statement of a module gives a meaning to."""
    if isinstance(node, _Function | ast.ClassDef):
        yield node.name
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            for alias in inner.names:
                yield alias.asname or alias.name.partition(".")[0]
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, _Function | ast.ClassDef):
            yield inner.name


def _used(node: ast.stmt, names: set[str]) -> Iterator[str]:
    """The names that a statement mentions, those in annotations written as text included."""
    skipped = {inner for one in getattr(node, "decorator_list", ()) if _is_ours(one, names) for inner in ast.walk(one)}
    for inner in ast.walk(node):
        if inner in skipped:
            continue
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str) and len(inner.value) < 200:
            try:
                expression = ast.parse(inner.value, mode="eval")
            except (SyntaxError, ValueError):
                continue
            yield from (one.id for one in ast.walk(expression) if isinstance(one, ast.Name))


def _text(node: ast.stmt, lines: list[str], names: set[str]) -> str:
    """A statement as it is written, our decorator left out."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    left_out = {
        line
        for decorator in decorators
        if _is_ours(decorator, names)
        for line in range(decorator.lineno, (decorator.end_lineno or decorator.lineno) + 1)
    }
    last = node.end_lineno or node.lineno
    text = [lines[number - 1] for number in range(first, last + 1) if number not in left_out]
    gap = [""] if isinstance(node, _Function | ast.ClassDef) else []
    return "\n".join([*gap, *text])


def _decorator_names(module: ast.Module) -> set[str]:
    """What the decorator is called in this file: `tool`, `hearth_client.tool`, or as it was imported."""
    found: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.module == _PACKAGE:
            found |= {alias.asname or alias.name for alias in node.names if alias.name == _DECORATOR}
        elif isinstance(node, ast.Import):
            found |= {f"{alias.asname or alias.name}.{_DECORATOR}" for alias in node.names if alias.name == _PACKAGE}
    return found


def _is_ours(decorator: ast.expr, names: set[str]) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called) in names


def _options(decorator: ast.expr) -> dict[str, Any]:
    if not isinstance(decorator, ast.Call):
        return {}
    if decorator.args:
        raise _wrong(decorator.args[0], "@tool takes options by name only, as in `@tool(timeout_s=5)`")
    return dict(map(_option, decorator.keywords))


def _option(keyword: ast.keyword) -> tuple[str, Any]:
    if keyword.arg is None:
        raise _wrong(keyword, "the options of @tool must be written one by one, not as `**`")
    name = keyword.arg
    if name not in OPTIONS:
        raise _wrong(keyword, problem_of(name, None))
    try:
        value = ast.literal_eval(keyword.value)
    except (ValueError, TypeError, RecursionError, MemoryError):
        raise _wrong(keyword.value, f"`{name}` of @tool must be a literal") from None
    if problem := problem_of(name, value):
        raise _wrong(keyword.value, problem)
    return name, value


def _wrong(node: ast.expr | ast.keyword, problem: str) -> ValueError:
    return ValueError(f"line {node.lineno}, column {node.col_offset + 1}: {problem}")
