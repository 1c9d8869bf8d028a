"""Where background work gets the identity that it acts under."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from chassis.identity import Identity


class Identities(Protocol):
    """The identity of this service on behalf of an organization and, for the record, of a user (`user_…`, empty: nobody)."""

    async def identity_for(self, organization_id: UUID | None, user: str = "") -> Identity:
        """Cached. Raises DomainError when user_svc does not give one."""
        ...
