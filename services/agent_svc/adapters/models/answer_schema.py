"""Asking for an answer that matches a JSON Schema: by the protocol's own means where there are some, in words where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

# Of the schema in OpenAI's protocol, and of the tool that stands for the answer in Anthropic's.
ANSWER_NAME = "final_answer"
_IN_WORDS = (
    "Your final answer must be one JSON object that matches this JSON Schema, and nothing else: no text around it, "
    "no code fence.\n{schema}"
)


def in_words(schema: Mapping[str, Any]) -> str:
    """What a model is told whose server cannot hold it to a schema."""
    return _IN_WORDS.format(schema=msgspec.json.encode(schema).decode())


def answer_tool_name(taken: Sequence[str]) -> str:
    """A name for the answer's tool that none of the agent's tools has."""
    name = ANSWER_NAME
    while name in taken:
        name += "_"
    return name


def is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes the schema: every object closed, and all its properties required."""
    if isinstance(schema, list):
        return all(is_strict(item) for item in cast("list[Any]", schema))
    if not isinstance(schema, dict):
        return True
    fields = cast("dict[str, Any]", schema)
    properties = fields.get("properties")
    if fields.get("type") == "object" or isinstance(properties, dict):
        names = set(cast("dict[str, Any]", properties)) if isinstance(properties, dict) else set[str]()
        required = fields.get("required") or ()
        if fields.get("additionalProperties") is not False or set(cast("list[str]", required)) != names:
            return False
    return all(is_strict(value) for value in fields.values())
