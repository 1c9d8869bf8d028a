"""When API keys were last used, for their owners to see which of them nobody needs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID


class KeyUses(Protocol):
    """Takes note of uses."""

    def note(self, key_id: UUID, moment: datetime) -> None:
        """Remembers that a key was used; costs its caller nothing, and fails never."""
        ...


class KeyUseRepository(Protocol):
    """Where the last use of each key is kept."""

    async def save(self, uses: Mapping[UUID, datetime]) -> None:
        """Stores the last uses of keys, of all organizations together. Raises DomainError."""
        ...
