"""The built-in memory tools: what the model is told about them. They are there whenever the model can call tools."""

from __future__ import annotations

from typing import Any

from agent_svc.domain.tool import Tool

CORE_MEMORY_APPEND = "core_memory_append"
CORE_MEMORY_REPLACE = "core_memory_replace"
ARCHIVAL_MEMORY_INSERT = "archival_memory_insert"
ARCHIVAL_MEMORY_SEARCH = "archival_memory_search"
CONVERSATION_SEARCH = "conversation_search"

MAX_RESULTS = 20
DEFAULT_RESULTS = 5


def _object(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_LABEL = {"type": "string", "description": "Label of the memory block, as shown in your memory. Example: human"}
_QUERY = {"type": "string", "description": "What to look for, in your own words or by exact terms.", "minLength": 1}
_TOP_K = {
    "type": "integer",
    "description": f"Most results to return; {DEFAULT_RESULTS} if left out.",
    "minimum": 1,
    "maximum": MAX_RESULTS,
}

# All of them may be repeated after a crash: searches change nothing, and changes carry a request id made from the call.
BUILT_IN_TOOLS: tuple[Tool, ...] = (
    Tool(
        CORE_MEMORY_APPEND,
        "Write something down in a block of your core memory, which is always in front of you. For short, lasting facts.",
        _object(
            ["label", "content"],
            label=_LABEL,
            content={"type": "string", "description": "What to add, on a line of its own.", "minLength": 1},
        ),
        idempotent=True,
    ),
    Tool(
        CORE_MEMORY_REPLACE,
        "Correct or remove something in a block of your core memory.",
        _object(
            ["label", "old_content", "new_content"],
            label=_LABEL,
            old_content={
                "type": "string",
                "description": "Text to replace, exactly as it stands in the block; it must occur there exactly once.",
                "minLength": 1,
            },
            new_content={"type": "string", "description": "What to put in its place; empty removes it."},
        ),
        idempotent=True,
    ),
    Tool(
        ARCHIVAL_MEMORY_INSERT,
        "Store something in your archival memory, which is unlimited but not in front of you: find it again by searching.",
        _object(
            ["content"],
            content={
                "type": "string",
                "description": "What to remember, understandable on its own: names instead of pronouns, dates in full.",
                "minLength": 1,
            },
            tags={"type": "array", "items": {"type": "string"}, "description": "Labels to find it by.", "maxItems": 16},
        ),
        idempotent=True,
    ),
    Tool(
        ARCHIVAL_MEMORY_SEARCH,
        "Search your archival memory by meaning and by words.",
        _object(["query"], query=_QUERY, top_k=_TOP_K),
        idempotent=True,
    ),
    Tool(
        CONVERSATION_SEARCH,
        "Search everything that was said in your conversations, including what is no longer in front of you.",
        _object(["query"], query=_QUERY, top_k=_TOP_K),
        idempotent=True,
    ),
)

BUILT_IN_BY_NAME = {tool.name: tool for tool in BUILT_IN_TOOLS}
