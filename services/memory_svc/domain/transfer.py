"""Memory on its way out and in: resources with their whole history, and which ids they keep."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from chassis.errors import InvalidArgument, invalid_field
from memory_svc.domain.blocks import Block, BlockVersion
from memory_svc.domain.passages import Passage, PassageVersion

_NAMESPACE = uuid.UUID("0d4f4b54-93b6-5f3c-8f0e-5b7c0b0b7c55")


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """A block with all its versions, oldest first."""

    block: Block
    versions: Sequence[BlockVersion]


@dataclass(frozen=True, slots=True)
class PassageRecord:
    """A passage with all its versions, oldest first."""

    passage: Passage
    versions: Sequence[PassageVersion]


MemoryRecord: TypeAlias = BlockRecord | PassageRecord


def kept_id(organization_id: uuid.UUID, owner_id: uuid.UUID | None, old: uuid.UUID, *, at_home: bool) -> uuid.UUID:
    """The id under which something is imported: its own at home, else one that is the same whenever it is imported there."""
    return old if at_home else uuid.uuid5(_NAMESPACE, f"{organization_id}/{owner_id}/{old}")


def check_history(versions: Sequence[BlockVersion] | Sequence[PassageVersion], newest: int, path: str) -> None:
    """Raises InvalidArgument unless the versions grow and end with the newest."""
    numbers = [version.version for version in versions]
    if not numbers or numbers[0] < 1 or numbers != sorted(set(numbers)) or numbers[-1] != newest:
        raise _unlike(path)


def check_newest(matches: bool, path: str) -> None:
    """Raises InvalidArgument unless the last version says what the resource says."""
    if not matches:
        raise _unlike(path)


def _unlike(path: str) -> InvalidArgument:
    return invalid_field(f"{path}.versions", "must grow and end with the resource as it is")
