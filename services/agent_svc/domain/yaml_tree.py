"""YAML (and with it JSON) as plain values, with the line of each. What is read decides nothing of how it is read: no tags, no aliases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 32
_TYPED = {f"tag:yaml.org,2002:{name}": name for name in ("int", "float", "bool", "null")}
# In C where PyYAML was built with it: a document of 256 KiB takes seconds otherwise.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlFault(ValueError):
    """The text cannot be read; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True)
class YamlTree:
    """The value, and the lines of what is in it by path, as in `agent.blocks[0].label`."""

    value: Any
    lines: Mapping[str, int] = field(default_factory=dict[str, int])

    def line(self, path: str) -> int:
        """Of the path, or of the nearest thing around it."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return 1


def read_yaml(text: str) -> YamlTree:
    """The only document in the text. Raises YamlFault: also for aliases, tags, twofold keys and depths beyond MAX_DEPTH."""
    lines: dict[str, int] = {}
    try:
        _check_events(text)
        root = yaml.compose(text, Loader=_Loader)
        return YamlTree(None if root is None else _value(root, "", lines), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlFault(error.problem or "is not YAML", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        raise YamlFault("holds a character that YAML does not allow", text.count("\n", 0, error.position) + 1) from None
    except (yaml.YAMLError, UnicodeError):
        raise YamlFault("is not YAML", 1) from None


def _check_events(text: str) -> None:
    """Before anything is built: what an alias stands for could be built without end, and what is too deep not at all."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise YamlFault("aliases (*name) are not allowed", line)
        if isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None) not in (None, "!"):
            raise YamlFault("tags (!name) are not allowed", line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise YamlFault(f"is nested deeper than {MAX_DEPTH}", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _value(node: yaml.Node, path: str, lines: dict[str, int]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, f"{path}[{index}]", lines) for index, item in enumerate(node.value)]
    return _scalar(node)


def _mapping(node: yaml.MappingNode, path: str, lines: dict[str, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise YamlFault("a key must be text", line)
        key = str(key_node.value)
        if key in found:
            raise YamlFault(f"{key[:64]!r} stands here twice", line)
        here = f"{path}.{key}" if path else key
        lines[here] = line
        found[key] = _value(value_node, here, lines)
    return found


def _scalar(node: yaml.Node) -> Any:
    kind = _TYPED.get(node.tag)
    text = str(node.value)
    if kind is None:
        return text
    try:
        return _construct(kind, node)
    except (ValueError, OverflowError):
        raise YamlFault(f"{text[:64]!r} is no {kind} that can be read", node.start_mark.line + 1) from None


def _construct(kind: str, node: yaml.Node) -> Any:
    constructor: Any = yaml.constructor.SafeConstructor()
    return getattr(constructor, f"construct_yaml_{kind}")(node)
