"""How many passages an organization may store, whichever way they come in."""

import uuid

from chassis.limits import Limits, quota_exceeded
from memory_svc.interfaces.unit_of_work import Transaction

# A limit of an organization, by name.
STORED_PASSAGES = "stored_passages"


class PassageRoom:
    """Holds organizations to their limit, exactly: it is asked in the transaction that added, which holds the count until its end."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    async def require(self, transaction: Transaction, organization_id: uuid.UUID, added: int) -> None:
        """Raises ResourceExhausted QUOTA_EXCEEDED when what was just added goes beyond the organization's limit."""
        limit = self._limits.of(organization_id, STORED_PASSAGES)
        if not added or limit is None:
            return
        total = await transaction.passages.total()
        if total > limit:
            raise quota_exceeded(STORED_PASSAGES, limit, total - added)
