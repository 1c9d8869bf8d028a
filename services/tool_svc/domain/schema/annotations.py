"""Type annotations → JSON Schema (2020-12), of a shape that OpenAI's and Anthropic's APIs accept.

To teach it another type, add it to `_PLAIN` when it takes no parameters, to `_generic` when it does.
"""

import ast
from collections.abc import Sequence
from typing import Any

from tool_svc.domain.schema import classes, metadata, values
from tool_svc.domain.schema.module import Module
from tool_svc.domain.schema.problems import source_invalid

Schema = dict[str, Any]

_MAX_DEPTH = 24
# Aliases of aliases can double with each line.
_MAX_TYPES = 4_000
_SUPPORTED = (
    "str, int, float, bool, None, list, tuple, set, dict[str, …], Literal, Optional, |, Any, "
    "an Enum, a dataclass, a TypedDict or a pydantic model of this source"
)

_PLAIN: dict[str, Schema] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "Any": {},
    "object": {},
    "datetime.datetime": {"type": "string", "format": "date-time"},
    "datetime.date": {"type": "string", "format": "date"},
    "datetime.time": {"type": "string", "format": "time"},
    "uuid.UUID": {"type": "string", "format": "uuid"},
    "decimal.Decimal": {"type": ["string", "number"]},
    "pathlib.Path": {"type": "string"},
}

_LISTS = {"list", "List", "Sequence", "MutableSequence", "Iterable", "Collection"}
_SETS = {"set", "Set", "frozenset", "FrozenSet", "AbstractSet", "MutableSet"}
_DICTS = {"dict", "Dict", "Mapping", "MutableMapping"}
_TUPLES = {"tuple", "Tuple"}
_TRANSPARENT = {"Required", "NotRequired", "ReadOnly", "Final", "ClassVar", "dataclasses.InitVar"}


class AnnotationReader:
    """Reads the annotations of one source."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._open: list[str] = []
        self._read = 0

    def schema(self, node: ast.expr) -> Schema:
        """The schema of an annotation. Raises InvalidArgument TOOL_SOURCE_INVALID."""
        self._read += 1
        if self._read > _MAX_TYPES:
            raise source_invalid(node, "the types of this function are too large", "fewer or flatter ones")
        if len(self._open) > _MAX_DEPTH:
            raise source_invalid(node, "this type is nested too deeply", "a flatter one")
        self._open.append("")
        try:
            return self._schema(node)
        except RecursionError:
            raise source_invalid(node, "this type is nested too deeply", "a flatter one") from None
        finally:
            self._open.pop()

    def _schema(self, node: ast.expr) -> Schema:
        match node:
            case ast.Constant(value=None):
                return dict(_PLAIN["None"])
            case ast.Constant(value=str(text)):
                return self.schema(self._parse(node, text))
            case ast.BinOp(op=ast.BitOr()):
                return self._union(_alternatives(node))
            case ast.Subscript(value=base, slice=inner):
                parameters = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                return self._generic(node, self._name(base), parameters)
            case ast.Name() | ast.Attribute():
                return self._named(node, self._name(node))
            case _:
                raise self._unsupported(node)

    def _named(self, node: ast.expr, name: str) -> Schema:
        if name in _PLAIN:
            return dict(_PLAIN[name])
        if name in self.module.classes:
            return self._once(node, name, lambda: classes.schema(self, self.module.classes[name]))
        if name in self.module.aliases:
            return self._once(node, name, lambda: self.schema(self._meaning(self.module.aliases[name])))
        if name in _LISTS:
            return {"type": "array", "items": {}}
        if name in _TUPLES:
            return {"type": "array", "items": {}}
        if name in _SETS:
            return {"type": "array", "items": {}, "uniqueItems": True}
        if name in _DICTS:
            return {"type": "object"}
        raise self._unsupported(node)

    def _meaning(self, value: ast.expr) -> ast.expr:
        """What an alias stands for: a type, or the one that `NewType` names anew."""
        match value:
            case ast.Call(func=func, args=[_, meant], keywords=[]) if self.module.dotted(func) == "NewType":
                return meant
            case _:
                return value

    def _generic(self, node: ast.Subscript, name: str, parameters: Sequence[ast.expr]) -> Schema:
        if name in _LISTS and len(parameters) == 1:
            return {"type": "array", "items": self.schema(parameters[0])}
        if name in _SETS and len(parameters) == 1:
            return {"type": "array", "items": self.schema(parameters[0]), "uniqueItems": True}
        if name in _TUPLES:
            return self._tuple(parameters)
        if name in _DICTS and len(parameters) == 2:
            if self.schema(parameters[0]) != _PLAIN["str"]:
                raise source_invalid(parameters[0], "keys of a JSON object are strings", "`dict[str, …]`")
            return {"type": "object", "additionalProperties": self.schema(parameters[1])}
        if name == "Optional" and len(parameters) == 1:
            return self._union([parameters[0], ast.Constant(None)])
        if name == "Union":
            return self._union(parameters)
        if name == "Literal":
            return self._literal(node, parameters)
        if name == "Annotated" and len(parameters) >= 2:
            return metadata.applied(self.schema(parameters[0]), parameters[1:], self.module)
        if name in _TRANSPARENT and len(parameters) == 1:
            return self.schema(parameters[0])
        raise self._unsupported(node)

    def _tuple(self, parameters: Sequence[ast.expr]) -> Schema:
        match parameters:
            case [one, ast.Constant(value=value)] if value is Ellipsis:
                return {"type": "array", "items": self.schema(one)}
            case [] | [ast.Tuple(elts=[])]:  # tuple[()]
                return {"type": "array", "items": {}, "maxItems": 0}
            case _:
                items = [self.schema(parameter) for parameter in parameters]
        exact = {"minItems": len(items), "maxItems": len(items)}
        if all(item == items[0] for item in items):
            return {"type": "array", "items": items[0], **exact}
        # `items: false` would be exact too, but providers want a schema there; the length closes the list already.
        different = [item for index, item in enumerate(items) if item not in items[:index]]
        return {"type": "array", "prefixItems": items, "items": {"anyOf": different}, **exact}

    def _union(self, members: Sequence[ast.expr]) -> Schema:
        schemas: list[Schema] = []
        for member in members:
            schema = self.schema(member)
            parts = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
            schemas += [part for part in parts if part not in schemas]
        if {} in schemas:
            return {}
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}

    def _literal(self, node: ast.expr, parameters: Sequence[ast.expr]) -> Schema:
        found: list[Any] = []
        for parameter in parameters:
            try:
                value = values.literal(parameter, self.module)
            except values.Unreadable:
                value = parameter
            if not (value is None or isinstance(value, str | int | bool)):
                raise source_invalid(parameter, "Literal takes strings, numbers, True, False, None", '`Literal["a"]`')
            found.append(value)
        return enumeration(found)

    def _name(self, node: ast.expr) -> str:
        name = self.module.dotted(node)
        if name is not None:
            return name
        text = ast.unparse(node)
        if isinstance(node, ast.Name) and (text in _LISTS | _SETS | _DICTS | _TUPLES or text in _TYPING_NAMES):
            raise source_invalid(node, f"`{text}` is not imported", f"`from typing import {text}` at the top")
        raise source_invalid(node, f"`{text}` is not defined in this source", f"one of: {_SUPPORTED}")

    def _parse(self, node: ast.expr, text: str) -> ast.expr:
        try:
            expression = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise source_invalid(node, f"the annotation {text[:80]!r} is not a type", f"one of: {_SUPPORTED}") from None
        for inner in ast.walk(expression):
            ast.copy_location(inner, node)
        return expression

    def _once(self, node: ast.expr, name: str, read: Any) -> Schema:
        if name in self._open:
            raise source_invalid(node, f"`{name}` refers to itself", "`dict` or `list` where it repeats")
        self._open.append(name)
        try:
            return read()
        finally:
            self._open.pop()

    def _unsupported(self, node: ast.expr) -> Exception:
        text = ast.unparse(node)[:80]
        return source_invalid(node, f"`{text}` has no JSON Schema", f"one of: {_SUPPORTED}")


_TYPING_NAMES = {"Any", "Optional", "Union", "Literal", "Annotated", "TypedDict"}


def enumeration(found: list[Any]) -> Schema:
    """The schema of a fixed set of values, with their type where they have one in common."""
    kinds = {_JSON_TYPES[type(value)] for value in found}
    return {"type": kinds.pop(), "enum": found} if len(kinds) == 1 else {"enum": found}


_JSON_TYPES = {str: "string", int: "integer", bool: "boolean", float: "number", type(None): "null"}


def _alternatives(node: ast.expr) -> list[ast.expr]:
    """`a | b | c` in order, without recursion: a hostile source may chain thousands."""
    found: list[ast.expr] = []
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, ast.BinOp) and isinstance(current.op, ast.BitOr):
            pending += [current.right, current.left]
        else:
            found.append(current)
    return found
