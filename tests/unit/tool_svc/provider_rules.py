"""What OpenAI's and Anthropic's APIs ask of a tool's schema, as far as it makes them refuse a request.

OpenAI (chat completions and responses, function calling without `strict`) answers 400 for a schema whose top is not an
object or has anyOf, oneOf, allOf, not, enum or const, for an array without `items`, for an `items` that is no schema,
and for an empty `enum`. Anthropic (messages, `input_schema`) validates against draft 2020-12, wants `type: object` at
the top without oneOf, anyOf, allOf, and property names of 1 to 64 letters, digits, `_`, `.` and `-`. Both want
references to stay inside the schema; derived ones have none at all.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema

_SUBSCHEMAS = ("properties", "$defs", "dependentSchemas", "patternProperties")
_SUBSCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SUBSCHEMA = ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")


def refusals(schema: dict[str, Any]) -> list[str]:
    """Why a provider would refuse this as a tool's parameters; empty when none does."""
    jsonschema.Draft202012Validator.check_schema(schema)
    found = [f"{word} at the top" for word in ("anyOf", "oneOf", "allOf", "not", "enum", "const") if word in schema]
    if schema.get("type") != "object" or not isinstance(schema.get("properties"), dict):
        found.append("the top is no object with properties")
    for path, node in _walk("$", schema):
        kinds = node.get("type", [])
        if "array" in ([kinds] if isinstance(kinds, str) else kinds) and not isinstance(node.get("items"), dict):
            found.append(f"{path}: an array without items")
        if node.get("enum") == []:
            found.append(f"{path}: an empty enum")
        if not set(node.get("required", [])) <= set(node.get("properties", {})):
            found.append(f"{path}: requires what it does not have")
        found += [
            f"{path}: the name {name!r}"
            for name in node.get("properties", {})
            if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", name)
        ]
        found += [f"{path}: {word}" for word in ("$ref", "$id", "$dynamicRef") if word in node]
    json.dumps(schema, allow_nan=False).encode()
    return found


def _walk(path: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(node, dict):
        return
    yield path, node
    for key in _SUBSCHEMAS:
        for name, inner in node.get(key, {}).items():
            yield from _walk(f"{path}.{key}.{name}", inner)
    for key in _SUBSCHEMA_LISTS:
        for place, inner in enumerate(node.get(key, [])):
            yield from _walk(f"{path}.{key}[{place}]", inner)
    for key in _SUBSCHEMA:
        yield from _walk(f"{path}.{key}", node.get(key))
