"""The role of the vector index. It is an index only: Postgres holds the truth, and the index may be lost at any time."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from memory_svc.domain.search import MemoryKind, Scope, Signal
from memory_svc.interfaces.embedder import DenseVector, SparseVector

_NAMESPACE = uuid.UUID("6f1f3a52-7c1e-5b0a-9d55-0d1f6a0c9c11")


def point_id(organization_id: uuid.UUID, item_id: uuid.UUID, chunk: int) -> uuid.UUID:
    """Where a chunk lies in the index; derived, so that writing twice writes one point."""
    return uuid.uuid5(_NAMESPACE, f"{organization_id}/{item_id}/{chunk}")


@dataclass(frozen=True, slots=True)
class IndexPoint:
    """One chunk of one item with all that is searched or filtered by. `version` is the item's row version."""

    organization_id: uuid.UUID
    kind: MemoryKind
    item_id: uuid.UUID
    chunk: int
    version: int
    dense: DenseVector
    lexical: SparseVector
    window: SparseVector
    agent_id: uuid.UUID
    time_ms: int
    conversation_id: uuid.UUID | None = None
    seq: int = 0
    role: str = ""
    tags: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    valid_from_ms: int | None = None
    valid_to_ms: int | None = None
    expire_ms: int | None = None

    @property
    def point_id(self) -> uuid.UUID:
        return point_id(self.organization_id, self.item_id, self.chunk)


@dataclass(frozen=True, slots=True)
class ItemReference:
    """What a point stands for."""

    item_id: uuid.UUID
    chunk: int
    version: int


@dataclass(frozen=True, slots=True)
class IndexedPoint:
    """A point as the index has it."""

    point_id: uuid.UUID
    kind: MemoryKind
    reference: ItemReference


ListQuery: TypeAlias = DenseVector | SparseVector


class VectorIndex(Protocol):
    """Nearest points by several vectors at once, inside one organization.

    Every method raises chassis.errors.Unavailable when the index cannot be reached.
    """

    @property
    def name(self) -> str:
        """Names the collection: the embedding model, its dimensions, and the layout of the points."""
        ...

    async def open(self) -> None:
        """Makes the index usable, creating it where absent."""
        ...

    async def close(self) -> None:
        """Writes out what is pending and lets go."""
        ...

    async def flush(self) -> None:
        """Writes out what is pending, so that opening again is quick. Nothing is lost without it."""
        ...

    async def upsert(self, points: Sequence[IndexPoint]) -> None:
        """Stores the points; a point already stored with a newer version stays as it is."""
        ...

    async def set_windows(self, windows: Mapping[uuid.UUID, SparseVector]) -> None:
        """Replaces the window vector of points by id. Unknown points are ignored."""
        ...

    async def delete_item(self, organization_id: uuid.UUID, item_id: uuid.UUID, *, first_chunk: int = 0) -> None:
        """Removes an item's chunks from `first_chunk` on. Deleting nothing is fine."""
        ...

    async def delete_organization(self, organization_id: uuid.UUID) -> int:
        """Removes all of an organization's points and writes that out. Returns how many there were."""
        ...

    async def search(
        self, scope: Scope, queries: Mapping[Signal, ListQuery], depth: int
    ) -> dict[Signal, dict[uuid.UUID, float]]:
        """For each list the `depth` best point ids in the scope with their scores."""
        ...

    async def resolve(self, points: Collection[uuid.UUID]) -> dict[uuid.UUID, ItemReference]:
        """What the points stand for; points that are gone are absent."""
        ...

    async def delete_points(self, points: Collection[uuid.UUID]) -> None:
        """Removes points by id. Deleting nothing is fine."""
        ...

    async def scan(
        self, organization_id: uuid.UUID, after: uuid.UUID | None, size: int
    ) -> tuple[Sequence[IndexedPoint], uuid.UUID | None]:
        """Some of an organization's points, and where to go on, None at the end."""
        ...

    async def count(self) -> int:
        """How many points there are, over all organizations."""
        ...
