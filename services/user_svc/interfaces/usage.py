"""Asking the services that count what an organization uses."""

from typing import Protocol
from uuid import UUID

from user_svc.domain.limits import Usage


class UsageReader(Protocol):
    """The other services."""

    async def of(self, organization_id: UUID) -> Usage:
        """What each of them says within half a second. Never fails: who does not answer is named."""
        ...
