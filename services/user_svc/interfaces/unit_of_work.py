"""Transactions: which rows can be seen, and that all or nothing is saved."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from chassis.once import RequestKey
from user_svc.interfaces.repositories import (
    ApiKeyRepository,
    OrganizationRepository,
    RevocationRepository,
    SigningKeyRepository,
    TrustedIssuerRepository,
    UserRepository,
)


class Answer(Protocol):
    """Takes the answer of a request, to be given again when the request comes again."""

    def save(self, response: bytes) -> None:
        """Keeps the serialized answer with the effect."""
        ...


class Transaction(Protocol):
    """What can be done in one transaction."""

    @property
    def organizations(self) -> OrganizationRepository: ...
    @property
    def users(self) -> UserRepository: ...
    @property
    def api_keys(self) -> ApiKeyRepository: ...
    @property
    def trusted_issuers(self) -> TrustedIssuerRepository: ...
    @property
    def signing_keys(self) -> SigningKeyRepository: ...
    @property
    def revocations(self) -> RevocationRepository: ...

    def once(self, organization_id: UUID, key: RequestKey | None) -> AbstractAsyncContextManager[Answer]:
        """A block that a repeated request does not enter: it is answered as before."""
        ...

    async def enter(self, organization_id: UUID) -> None:
        """Goes on in an organization that was made in this platform transaction."""
        ...

    async def alone(self, what: str) -> None:
        """Waits until no other transaction, in any replica, is doing `what`; others wait for this one's end."""
        ...


class UnitOfWork(Protocol):
    """Opens transactions. Each commits when its block ends well, and leaves nothing behind otherwise."""

    def of(self, organization_id: UUID) -> AbstractAsyncContextManager[Transaction]:
        """Sees one organization."""
        ...

    def of_platform(self, acting_organization_id: UUID | None) -> AbstractAsyncContextManager[Transaction]:
        """Sees all organizations (the resource only: their users and keys stay invisible), and the acting one's rows.

        Only for callers that have proved to be PLATFORM_ADMIN, for the first start, and for what services read of all.
        """
        ...

    def of_nobody(self) -> AbstractAsyncContextManager[Transaction]:
        """Sees no organization: for signing keys, and for finding whom a secret belongs to."""
        ...
