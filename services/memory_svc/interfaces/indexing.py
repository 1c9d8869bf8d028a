"""The role of what keeps the index in step with the rows, as seen by those who write and search."""

import uuid
from typing import Protocol


class IndexProgress(Protocol):
    """Knows how far the index is."""

    def poke(self) -> None:
        """Says that there is work, so that it begins at once."""
        ...

    @property
    def is_caught_up(self) -> bool:
        """True only when nothing can be waiting: all that was ever committed is in the index."""
        ...

    @property
    def is_filled(self) -> bool:
        """Whether the index has all that there was when it was made; until then it would find only a part."""
        ...

    async def wait_applied(self, organization_id: uuid.UUID, position: int, timeout_s: float) -> bool:
        """Waits until all of an organization up to an outbox position is in the index; False when it takes longer."""
        ...
