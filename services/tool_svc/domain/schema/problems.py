"""How the reading of a source fails: where, why, and what to write instead."""

import ast

from chassis.errors import InvalidArgument


def source_invalid(node: ast.AST | None, problem: str, instead: str = "") -> InvalidArgument:
    """TOOL_SOURCE_INVALID at a node. `instead` completes "write …"."""
    line = getattr(node, "lineno", 1)
    column = getattr(node, "col_offset", 0) + 1
    return source_invalid_at(line, column, problem, instead)


def source_invalid_at(line: int, column: int, problem: str, instead: str = "") -> InvalidArgument:
    """TOOL_SOURCE_INVALID at a line and column, both counted from 1."""
    advice = f"; write {instead}" if instead else ""
    return InvalidArgument(
        f"line {line}, column {column}: {problem}{advice}",
        reason="TOOL_SOURCE_INVALID",
        metadata={"line": str(line), "column": str(column)},
    )
