"""What `Annotated[type, …]` says beside the type: a description, or the limits in a `Field(…)`."""

import ast
from collections.abc import Sequence
from typing import Any

from tool_svc.domain.schema import values
from tool_svc.domain.schema.module import Module
from tool_svc.domain.schema.problems import source_invalid

_KEYWORDS = {
    "description": "description",
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}
_LENGTHS = {"min_length": "min", "max_length": "max"}


def applied(schema: dict[str, Any], extras: Sequence[ast.expr], module: Module) -> dict[str, Any]:
    """The schema with what the extras say. Extras that are neither text nor a call with keywords say nothing."""
    result = dict(schema)
    for extra in extras:
        match extra:
            case ast.Constant(value=str(text)):
                result["description"] = text
            case ast.Call(func=func, args=[ast.Constant(value=str(text))]) if module.dotted(func) == "Doc":
                result["description"] = text
            case ast.Call(keywords=keywords):
                for keyword in keywords:
                    _apply(result, keyword, module)
            case _:
                pass
    return result


def _apply(schema: dict[str, Any], keyword: ast.keyword, module: Module) -> None:
    name = keyword.arg or ""
    if name in _KEYWORDS:
        schema[_KEYWORDS[name]] = _value(keyword, module)
    elif name in _LENGTHS:
        unit = "Items" if schema.get("type") == "array" else "Length"
        schema[_LENGTHS[name] + unit] = _value(keyword, module)


def _value(keyword: ast.keyword, module: Module) -> Any:
    try:
        return values.literal(keyword.value, module)
    except values.Unreadable:
        raise source_invalid(keyword.value, f"`{keyword.arg}` must be a literal", f"`{keyword.arg}=1`") from None
