"""How a manager carries a request id without knowing the wire: the key, and how to write the answer down."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What identifies a request: its method, its id, and a hash of everything else in it."""

    method: str
    request_id: UUID
    body_hash: bytes


# No slots: a frozen class with slots cannot be called as `Once[Thing](…)`.
@dataclass(frozen=True)
class Once(Generic[T]):
    """A request to be answered once. Without a key it is answered each time it comes."""

    key: RequestKey | None
    encode: Callable[[T], bytes]
