"""Classes of the source as types of arguments: enumerations, dataclasses, TypedDicts, pydantic models."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tool_svc.domain.schema import docstrings, metadata, values
from tool_svc.domain.schema.module import Module
from tool_svc.domain.schema.problems import source_invalid

if TYPE_CHECKING:
    from tool_svc.domain.schema.annotations import AnnotationReader

_SUPPORTED = "an Enum, a `@dataclass`, a `TypedDict` or a pydantic `BaseModel`"
_MAX_MEMBERS = 500
_MODEL = "pydantic.BaseModel"
_DATACLASSES = ("dataclasses.dataclass", "pydantic.dataclasses.dataclass")
_FIELD_FUNCTIONS = ("dataclasses.field", "pydantic.Field")


@dataclass(frozen=True)
class _Field:
    annotation: ast.expr
    required: bool
    default: ast.expr | None
    # The `Field(…)` or `field(…)` that it is set to, and the name that JSON has for it, if another.
    details: ast.Call | None = None
    alias: str = ""


def schema(reader: AnnotationReader, node: ast.ClassDef) -> dict[str, Any]:
    """The schema of a class. Raises InvalidArgument TOOL_SOURCE_INVALID for one that is no plain data."""
    module = reader.module
    if values.is_enum(node, module):
        return _enum_schema(node, module)
    fields: dict[str, _Field] = {}
    documented: dict[str, str] = {}
    for ancestor in _ancestry(node, module):
        fields |= _fields(ancestor, module)
        documented |= docstrings.read(ancestor).arguments
    properties: dict[str, Any] = {}
    for name, one in fields.items():
        property_schema = reader.schema(one.annotation)
        if one.details is not None:
            property_schema = metadata.applied(property_schema, [one.details], module)
        add_default(property_schema, one.default, module)
        if name in documented:
            property_schema.setdefault("description", documented[name])
        properties[one.alias or name] = property_schema
    return {
        "type": "object",
        "properties": properties,
        "required": [one.alias or name for name, one in fields.items() if one.required],
        "additionalProperties": False,
    }


def add_default(target: dict[str, Any], default: ast.expr | None, module: Module) -> None:
    """Note a default where it is a literal. One that is computed stays the function's own secret."""
    if default is None:
        return
    try:
        target["default"] = values.literal(default, module)
    except values.Unreadable:
        return


def _enum_schema(node: ast.ClassDef, module: Module) -> dict[str, Any]:
    from tool_svc.domain.schema.annotations import enumeration

    try:
        found = [value for _, value in values.enum_members(node, module)]
    except values.Unreadable:
        found = []
    if not found or len(found) > _MAX_MEMBERS or not all(isinstance(v, str | int | float) for v in found):
        problem = f"`{node.name}` must have 1 to {_MAX_MEMBERS} members whose values are strings or numbers"
        raise source_invalid(node, problem, '`RED = "red"`')
    return enumeration(found)


def _ancestry(node: ast.ClassDef, module: Module, seen: tuple[str, ...] = ()) -> list[ast.ClassDef]:
    """The class and its bases of the same source, eldest first."""
    if node.name in seen:
        raise source_invalid(node, f"`{node.name}` is its own base")
    found: list[ast.ClassDef] = []
    typed = _is_dataclass(node, module)
    for base in node.bases:
        name = module.dotted(base)
        if name in ("TypedDict", _MODEL):
            typed = True
        elif name in module.classes:
            found += _ancestry(module.classes[name], module, (*seen, node.name))
            typed = typed or not _is_dataclass(module.classes[name], module)
        else:
            raise source_invalid(base, f"`{ast.unparse(base)}` is no base for an argument's type", _SUPPORTED)
    if not typed:
        raise source_invalid(node, f"`{node.name}` is a class whose fields are not known", _SUPPORTED)
    return [*found, node]


def _is_dataclass(node: ast.ClassDef, module: Module) -> bool:
    decorators = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
    return any(module.dotted(one) in _DATACLASSES for one in decorators)


def _is_model(node: ast.ClassDef, module: Module) -> bool:
    """Whether the eldest base is pydantic's. What `_ancestry` has passed does not lead in circles."""
    names = [module.dotted(base) or "" for base in node.bases]
    return _MODEL in names or any(name in module.classes and _is_model(module.classes[name], module) for name in names)


def _fields(node: ast.ClassDef, module: Module) -> dict[str, _Field]:
    takes_defaults = _is_dataclass(node, module) or _is_model(node, module)
    total = not any(
        keyword.arg == "total" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in node.keywords
    )
    fields: dict[str, _Field] = {}
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                marker = module.dotted(annotation.value if isinstance(annotation, ast.Subscript) else annotation)
                if marker in ("ClassVar", "dataclasses.KW_ONLY") or name == "model_config":
                    continue
                if takes_defaults:
                    one = _field_with_default(annotation, value, module)
                else:
                    required = marker == "Required" or (total and marker != "NotRequired")
                    one = _Field(annotation, required, None)
                if one is not None:
                    fields[name] = one
            case _:
                pass
    return fields


def _field_with_default(annotation: ast.expr, value: ast.expr | None, module: Module) -> _Field | None:
    """A field of a dataclass or model; None for one that its constructor does not take."""
    if not (isinstance(value, ast.Call) and module.dotted(value.func) in _FIELD_FUNCTIONS):
        return _Field(annotation, value is None, value)
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    if isinstance(init := given.get("init"), ast.Constant) and init.value is False:
        return None
    default = value.args[0] if value.args else given.get("default")
    if isinstance(default, ast.Constant) and default.value is Ellipsis:  # pydantic's way to say: required.
        default = None
    alias = given.get("validation_alias", given.get("alias"))
    return _Field(
        annotation,
        required=default is None and "default_factory" not in given,
        default=default,
        details=value,
        alias=alias.value if isinstance(alias, ast.Constant) and isinstance(alias.value, str) else "",
    )
