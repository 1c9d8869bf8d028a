"""What is looked up at every sign-in, outside of any transaction that changes something."""

from typing import Protocol
from uuid import UUID

from user_svc.domain.organization import Organization
from user_svc.domain.token import KeyHolder
from user_svc.domain.user import User


class Directory(Protocol):
    """Each answer is one round trip to the database."""

    async def holder_of(self, secret_hash: bytes) -> KeyHolder | None:
        """The user, key and organization behind a secret that is not revoked, None if there is none."""
        ...

    async def organization(self, organization_id: UUID) -> Organization | None:
        """One that is not deleted."""
        ...

    async def account(self, organization_id: UUID, user_id: UUID) -> tuple[Organization, User] | None:
        """A user and the organization, neither of them deleted."""
        ...
