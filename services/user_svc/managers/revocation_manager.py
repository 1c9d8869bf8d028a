"""Revocations, for everyone who verifies tokens."""

from collections.abc import Sequence
from datetime import UTC, datetime

from user_svc.domain.revocation import Revocation
from user_svc.interfaces.unit_of_work import UnitOfWork

PAGE = 1_000


class RevocationManager:
    """Reads what the other managers record with their changes."""

    def __init__(self, unit_of_work: UnitOfWork) -> None:
        self._work = unit_of_work

    async def after(self, position: int) -> Sequence[Revocation]:
        """What was recorded after a position, oldest first, at most 1000, without what nobody needs any more."""
        async with self._work.of_nobody() as work:
            return await work.revocations.after(position, PAGE, datetime.now(UTC))
