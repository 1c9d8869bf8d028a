"""How points lie in Qdrant, the same in the process and on a server: names of vectors, payload, and its indexes."""

import re

from memory_svc.domain.search import Signal
from memory_svc.interfaces.vector_index import IndexPoint

_UNUSABLE = re.compile(r"[^A-Za-z0-9._-]")
# Counts up when vectors or payload change shape: an older collection is then left alone and a new one is filled.
LAYOUT = 2
VECTOR_OF = {Signal.DENSE: "dense", Signal.LEXICAL: "lexical", Signal.WINDOW: "window"}
SPARSE = ("lexical", "window")
TENANT = "organization_id"
KEYWORDS = ("item_id", "kind", "agent_id", "conversation_id", "role", "tags", "metadata")
INTEGERS = ("time_ms", "version", "chunk", "seq", "valid_from_ms", "valid_to_ms", "expire_ms")


def collection_name(model: str, dimensions: int) -> str:
    """One collection for each model and layout, so that vectors of two models never meet."""
    # Models are named BAAI/bge-m3 or nomic-embed-text:latest; this is a folder's name too.
    return f"{_UNUSABLE.sub('_', model)}-{dimensions}-v{LAYOUT}"


def payload_of(point: IndexPoint) -> dict[str, object]:
    """What a point is searched and filtered by. What is empty is left out."""
    payload: dict[str, object] = {
        "organization_id": str(point.organization_id),
        "kind": point.kind.value,
        "item_id": str(point.item_id),
        "chunk": point.chunk,
        "version": point.version,
        "agent_id": str(point.agent_id),
        "time_ms": point.time_ms,
    }
    if point.conversation_id is not None:
        payload["conversation_id"] = str(point.conversation_id)
        payload["seq"] = point.seq
    optional: dict[str, object] = {
        "role": point.role,
        "tags": list(point.tags),
        "metadata": list(point.metadata),
        "numbers": {_hexadecimal(key): value for key, value in point.numbers.items()},
        "valid_from_ms": point.valid_from_ms,
        "valid_to_ms": point.valid_to_ms,
        "expire_ms": point.expire_ms,
    }
    return payload | {name: value for name, value in optional.items() if value not in (None, "", [], {})}


def number_path(key: str) -> str:
    """Where the number of a metadata key lies. Keys may hold what means something in a path, so they are encoded."""
    return f"numbers.{_hexadecimal(key)}"


def _hexadecimal(key: str) -> str:
    return f"x{key.encode().hex()}"
