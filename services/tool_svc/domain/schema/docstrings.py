"""What a docstring says: a description, and a line for each argument (Google, NumPy, Sphinx and Epydoc styles)."""

import ast
from dataclasses import dataclass

import docstring_parser

MAX_DESCRIPTION = 4096
# The parser's work grows faster than its text.
_MAX_TEXT = 16_384


@dataclass(frozen=True)
class Documentation:
    """A description, and by argument what it means and what type the docstring gives it."""

    description: str
    arguments: dict[str, str]
    types: dict[str, str]


def read(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Documentation:
    """The docstring of a function or class; empty when there is none."""
    text = (ast.get_docstring(node) or "")[:_MAX_TEXT]
    try:
        parsed = docstring_parser.parse(text)
    except docstring_parser.ParseError:
        return Documentation(text[:MAX_DESCRIPTION], {}, {})
    parts = [part.strip() for part in (parsed.short_description, parsed.long_description) if part]
    arguments: dict[str, str] = {}
    types: dict[str, str] = {}
    for parameter in parsed.params:
        name = parameter.arg_name.lstrip("*")
        if parameter.description:
            arguments[name] = " ".join(parameter.description.split())[:MAX_DESCRIPTION]
        if parameter.type_name:
            types[name] = parameter.type_name.removesuffix(", optional")
    return Documentation("\n\n".join(parts)[:MAX_DESCRIPTION], arguments, types)
