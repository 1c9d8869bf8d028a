"""Files with memories: what `hearth memory export` wrote, mem0's exports, and plain lines."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hearth_client.cli._session import Failure

if TYPE_CHECKING:
    from hearth.memory.v1.archival_memory_service_pb2 import PassageSpec
    from hearth.memory.v1.transfer_service_pb2 import MemoryRecord

FORMATS = ("auto", "hearth", "mem0", "jsonl")
_NAMESPACE = uuid.UUID("5b2a4df2-6d0e-5c64-8a39-0b6f0d4c9f11")
# What mem0 says of a memory beside its text and metadata.
_MEM0_FIELDS = ("id", "user_id", "agent_id", "run_id", "actor_id", "role", "created_at", "updated_at")


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A file and what it is: records with history, or texts to store as passages. Read line by line, not at once, but for mem0's."""

    path: Path
    format: str

    def records(self) -> Iterator[MemoryRecord]:
        """What an export holds. Raises Failure naming the line that is none."""
        from google.protobuf.json_format import ParseDict, ParseError

        from hearth.memory.v1.transfer_service_pb2 import MemoryRecord

        for number, row in _lines(self.path):
            try:
                yield ParseDict(row, MemoryRecord())
            except ParseError as error:
                raise Failure(f"{self.path}, line {number}: {error}") from None

    def passages(self) -> Iterator[PassageSpec]:
        """The texts. Raises Failure naming what is none."""
        if self.format == "mem0":
            yield from map(_of_mem0, _mem0_memories(self.path))
            return
        for number, row in _lines(self.path):
            yield _plain(row, f"{self.path}, line {number}")

    def import_id(self, agent_id: str) -> str:
        """The same for the same content and agent, so that running an import again goes on where it broke off."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        return str(uuid.uuid5(_NAMESPACE, f"{agent_id}/{digest.hexdigest()}"))


def open_file(path: Path, given: str) -> MemoryFile:
    """The file, with its format found out where it is `auto`. Raises Failure."""
    if given != "auto":
        return MemoryFile(path, given)
    try:
        with path.open(encoding="utf-8") as file:
            begin = next((line.strip() for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read {path}: {error}") from None
    try:
        row: Any = json.loads(begin)
    except ValueError:
        # A JSON document over several lines.
        return MemoryFile(path, "mem0")
    if isinstance(row, dict) and ("block" in row or "passage" in row):
        return MemoryFile(path, "hearth")
    return MemoryFile(path, "jsonl" if isinstance(row, dict) and "text" in row else "mem0")


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except ValueError:
                raise Failure(f"{path}, line {number}: not JSON") from None


def _mem0_memories(path: Path) -> list[dict[str, Any]]:
    """What get_all() returns, `{"results": […]}` or older a list, or one memory a line."""
    text = path.read_text(encoding="utf-8")
    try:
        document: Any = json.loads(text)
    except ValueError:
        document = [row for _, row in _lines(path)]
    if isinstance(document, dict):
        document = document.get("results", document.get("memories", [document]))
    if not isinstance(document, list) or not all(isinstance(row, dict) and row.get("memory") for row in document):
        raise Failure(f"{path} is neither an export of Hearth's, nor of mem0's, nor lines like {{\"text\": …}}")
    return document


def _of_mem0(row: dict[str, Any]) -> PassageSpec:
    from hearth.memory.v1.archival_memory_service_pb2 import PassageSpec

    spec = PassageSpec(text=str(row["memory"]))
    told = {f"mem0_{name}": row[name] for name in _MEM0_FIELDS if row.get(name)}
    spec.metadata.update(_simple({**(row.get("metadata") or {}), **told}))
    return spec


def _plain(row: Any, where: str) -> PassageSpec:
    from google.protobuf.json_format import ParseDict, ParseError

    from hearth.memory.v1.archival_memory_service_pb2 import PassageSpec

    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise Failure(f'{where}: not like {{"text": "…", "tags": […], "metadata": {{…}}}}')
    try:
        return ParseDict(row, PassageSpec())
    except ParseError as error:
        raise Failure(f"{where}: {error}") from None


def _simple(values: dict[str, Any]) -> dict[str, Any]:
    """Metadata holds texts, numbers and booleans; what is more is kept as JSON text."""
    return {
        key: value if isinstance(value, str | int | float | bool) else json.dumps(value, ensure_ascii=False)
        for key, value in values.items()
        if value is not None
    }
