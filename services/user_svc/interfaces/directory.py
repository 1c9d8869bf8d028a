"""What is looked up at every sign-in, outside of any transaction that changes something."""

from collections.abc import Collection, Sequence
from typing import Protocol
from uuid import UUID

from user_svc.domain.organization import Organization
from user_svc.domain.token import KeyHolder
from user_svc.domain.trusted_issuer import TrustedIssuer
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

    async def issuers(self) -> Collection[str]:
        """All that any organization trusts now."""
        ...

    async def trusting(self, issuer: str, audiences: Sequence[str]) -> Sequence[TrustedIssuer]:
        """Who trusts an issuer for one of some audiences now, of all organizations."""
        ...

    async def external_account(
        self, organization_id: UUID, issuer: str, subject: str
    ) -> tuple[Organization, User | None] | None:
        """An organization that is not deleted, and its user that came from an issuer, if there is one."""
        ...
