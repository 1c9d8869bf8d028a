"""The document of a template: description, variables, and an agent whose texts may hold `{{ name }}`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from agent_svc.domain.template import TemplateVariable
from agent_svc.domain.yaml_tree import YamlFault, YamlTree, read_yaml

MAX_VARIABLES = 64
_MAX_DESCRIPTION = 1024
_MAX_DEFAULT = 65_536
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_REFERENCE = re.compile(r"\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]{0,63})[ \t]*\}\}")
_FIELDS = ("description", "variables", "agent")
_VARIABLE_FIELDS = ("description", "default", "required")


class TemplateFault(ValueError):
    """The document is no template; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class VariablesFault(ValueError):
    """Variables that must be given and were not, and such that were given and are not declared."""

    def __init__(self, missing: tuple[str, ...], unknown: tuple[str, ...]) -> None:
        super().__init__("variables do not fit")
        self.missing = missing
        self.unknown = unknown


@dataclass(frozen=True, slots=True)
class TemplateDocument:
    """A document that was read. `agent` holds the values of a CreateAgentRequest, its texts not substituted yet."""

    description: str
    variables: tuple[TemplateVariable, ...]
    agent: Mapping[str, Any]
    tree: YamlTree

    def line(self, agent_path: str) -> int:
        """Where something of the agent stands, by its path, as in `blocks[0].label`."""
        return self.tree.line(f"agent.{agent_path}" if agent_path else "agent")

    def varies(self, agent_path: str) -> bool:
        """Whether variables stand in what the path leads to, or around it."""
        return any(_under(path, agent_path) for path, _ in _references(self.agent, ""))


def read_template(text: str) -> TemplateDocument:
    """Raises TemplateFault, naming the line, for all that can be known without looking at the agent's fields."""
    try:
        tree = read_yaml(text)
    except YamlFault as fault:
        raise TemplateFault(fault.message, fault.line) from None
    top = _mapping(tree, tree.value, "", "a template")
    _only(tree, top, "", _FIELDS)
    if "agent" not in top:
        raise TemplateFault("there is no agent", 1)
    document = TemplateDocument(
        _text(tree, top.get("description"), "description", _MAX_DESCRIPTION),
        _variables(tree, top.get("variables")),
        _mapping(tree, top["agent"], "agent", "agent"),
        tree,
    )
    declared = {variable.name for variable in document.variables}
    for path, name in _references(document.agent, ""):
        if name not in declared:
            raise TemplateFault(f"variable {name} is not declared", document.line(path))
    return document


def substituted(document: TemplateDocument, given: Mapping[str, str]) -> dict[str, Any]:
    """The agent's values with the variables' in their places. Only texts change, and only once: a value is never read as anything else.

    Raises VariablesFault.
    """
    declared = {variable.name: variable for variable in document.variables}
    unknown = tuple(sorted(name for name in given if name not in declared))
    missing = tuple(v.name for v in document.variables if v.required and v.default is None and not given.get(v.name))
    if unknown or missing:
        raise VariablesFault(missing, unknown)
    values = {name: given.get(name, variable.default or "") for name, variable in declared.items()}
    return cast("dict[str, Any]", _filled(document.agent, values))


def sample_values(document: TemplateDocument) -> dict[str, str]:
    """Something for each variable that has no default: to see what a template makes before anyone uses it."""
    return {variable.name: "x" for variable in document.variables if variable.default is None}


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: values[match[1]], value)
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in cast("list[Any]", value)]
    return value


def _references(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, variable) of all places."""
    if isinstance(value, str):
        for match in _REFERENCE.finditer(value):
            yield path, match[1]
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from _references(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[Any]", value)):
            yield from _references(item, f"{path}[{index}]")


def _under(path: str, root: str) -> bool:
    return path == root or path.startswith((f"{root}.", f"{root}[")) or not root


def _variables(tree: YamlTree, value: Any) -> tuple[TemplateVariable, ...]:
    if value is None:
        return ()
    declared = _mapping(tree, value, "variables", "variables")
    if len(declared) > MAX_VARIABLES:
        raise TemplateFault(f"more than {MAX_VARIABLES} variables", tree.line("variables"))
    return tuple(_variable(tree, name, given) for name, given in declared.items())


def _variable(tree: YamlTree, name: str, given: Any) -> TemplateVariable:
    path = f"variables.{name}"
    if not _NAME.fullmatch(name):
        raise TemplateFault("a variable's name is made of letters, digits and underscores, 64 at most", tree.line(path))
    if given is None:
        return TemplateVariable(name)
    fields = _mapping(tree, given, path, f"variable {name}")
    _only(tree, fields, path, _VARIABLE_FIELDS)
    required = fields.get("required", False)
    if not isinstance(required, bool):
        raise TemplateFault("required must be true or false", tree.line(f"{path}.required"))
    default = fields.get("default")
    return TemplateVariable(
        name,
        _text(tree, fields.get("description"), f"{path}.description", _MAX_DESCRIPTION),
        None if default is None else _text(tree, default, f"{path}.default", _MAX_DEFAULT),
        required,
    )


def _mapping(tree: YamlTree, value: Any, path: str, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TemplateFault(f"{what} must be a mapping of fields", tree.line(path))
    return cast("dict[str, Any]", value)


def _only(tree: YamlTree, value: Mapping[str, Any], path: str, known: tuple[str, ...]) -> None:
    for key in value:
        if key not in known:
            where = f"{path}.{key}" if path else key
            raise TemplateFault(f"unknown field {key[:64]!r}; known are {', '.join(known)}", tree.line(where))


def _text(tree: YamlTree, value: Any, path: str, most: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TemplateFault("must be text (in quotes, if it looks like something else)", tree.line(path))
    if len(value) > most:
        raise TemplateFault(f"is longer than {most} characters", tree.line(path))
    return value
