"""Where organizations, users, keys live."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from user_svc.domain.api_key import ApiKey
from user_svc.domain.limits import LimitsChange
from user_svc.domain.organization import Organization, OrganizationChange
from user_svc.domain.revocation import Revocation
from user_svc.domain.token import SigningKey
from user_svc.domain.trusted_issuer import TokenAddress, TrustedIssuer
from user_svc.domain.user import User, UserChange


class OrganizationRepository(Protocol):
    """The organizations that the transaction can see: its own, or all in a platform transaction."""

    async def add(self, organization: Organization) -> None:
        """Raises AlreadyExists NAME_TAKEN."""
        ...

    async def get(self, organization_id: UUID) -> Organization | None:
        """One that is not deleted."""
        ...

    async def get_for_share(self, organization_id: UUID) -> Organization | None:
        """One that is not deleted, which cannot change until the transaction ends."""
        ...

    async def get_for_update(self, organization_id: UUID) -> Organization | None:
        """One, deleted or not, which nobody else can change until the transaction ends."""
        ...

    async def get_deleted(self, organization_id: UUID) -> Organization | None:
        """One that is deleted."""
        ...

    async def named(self, name: str) -> Organization | None:
        """One that is not deleted, by its handle."""
        ...

    async def page(self, after: UUID | None, limit: int) -> Sequence[Organization]:
        """Those not deleted, oldest first."""
        ...

    async def change(self, organization_id: UUID, change: OrganizationChange) -> Organization:
        """Applies a change to one that was got for update. Its `limits` are all of them, without None."""
        ...

    async def delete(self, organization_id: UUID, purge_time: datetime) -> None:
        """Marks one as deleted, its data to go from a time on."""
        ...

    async def purge_from(self, organization_id: UUID, purge_time: datetime) -> None:
        """Sets that time again."""
        ...

    async def limits_after(self, position: int, limit: int) -> Sequence[LimitsChange]:
        """Own numbers that were set after a position, oldest first."""
        ...

    async def to_purge(self, service: str, now: datetime, limit: int) -> Sequence[UUID]:
        """Those whose data a service must remove now, first those whose time came first; for user_svc, when all others have."""
        ...

    async def purged(self, organization: Organization, service: str, report: Mapping[str, Any], now: datetime) -> None:
        """Notes that a service has removed all of one that was got for update; once all have, that it is over."""
        ...


class UserRepository(Protocol):
    """The users of the transaction's organization."""

    async def add(self, user: User) -> None:
        """Raises AlreadyExists NAME_TAKEN for its name or e-mail address."""
        ...

    async def get(self, user_id: UUID) -> User | None:
        """One that is not deleted."""
        ...

    async def get_for_update(self, user_id: UUID) -> User | None:
        """One, deleted or not, which nobody else can change until the transaction ends."""
        ...

    async def get_for_share(self, user_id: UUID) -> User | None:
        """One that is not deleted, which cannot change until the transaction ends."""
        ...

    async def external(self, issuer: str, subject: str) -> User | None:
        """One that is not deleted, by who it is where it came from."""
        ...

    async def named(self, name: str) -> User | None:
        """One that is not deleted, by its handle."""
        ...

    async def page(self, after: UUID | None, limit: int) -> Sequence[User]:
        """Those not deleted, oldest first."""
        ...

    async def change(self, user_id: UUID, change: UserChange) -> User:
        """Applies a change to one that was got for update. Raises AlreadyExists NAME_TAKEN for an e-mail address."""
        ...

    async def delete(self, user_id: UUID) -> None:
        """Marks one as deleted."""
        ...

    async def disable_all(self) -> None:
        """Disables all of the organization."""
        ...


class ApiKeyRepository(Protocol):
    """The API keys of the transaction's organization."""

    async def add(self, key: ApiKey, secret_hash: bytes) -> None:
        """Stores a key and makes it findable by the hash of its secret."""
        ...

    async def get(self, key_id: UUID) -> ApiKey | None:
        """One, revoked or not."""
        ...

    async def page(self, user_id: UUID | None, after: UUID | None, limit: int) -> Sequence[ApiKey]:
        """All, or a user's, oldest first, revoked ones included."""
        ...

    async def revoke(self, key_id: UUID) -> None:
        """Makes a key useless; does nothing to one that is."""
        ...

    async def revoke_all(self, user_id: UUID | None = None) -> None:
        """Makes all keys of a user useless, or all of the organization."""
        ...

    async def is_active_anywhere(self, secret_hash: bytes) -> bool:
        """Whether a key of any organization has this secret and is not revoked."""
        ...

    async def has_hash(self, secret_hash: bytes) -> bool:
        """Whether a key with this secret was ever stored, revoked ones included."""
        ...


class TrustedIssuerRepository(Protocol):
    """The issuers that the transaction's organization trusts."""

    async def add(self, issuer: TrustedIssuer) -> None:
        """Raises AlreadyExists ISSUER_TAKEN."""
        ...

    async def get(self, issuer_id: UUID) -> TrustedIssuer | None:
        """One that is not deleted."""
        ...

    async def get_for_update(self, issuer_id: UUID) -> TrustedIssuer | None:
        """One, deleted or not, which nobody else can change until the transaction ends."""
        ...

    async def page(self, after: UUID | None, limit: int) -> Sequence[TrustedIssuer]:
        """Those not deleted, oldest first."""
        ...

    async def count(self) -> int:
        """How many are not deleted."""
        ...

    async def addresses(self, issuer: str, audience: str) -> Sequence[TokenAddress]:
        """Whose tokens lead to an organization, any organization."""
        ...

    async def change(self, issuer: TrustedIssuer) -> TrustedIssuer:
        """Stores new values of one that was got for update."""
        ...

    async def delete(self, issuer_id: UUID) -> None:
        """Marks one as deleted."""
        ...

    async def delete_all(self) -> None:
        """Marks all of the organization as deleted."""
        ...


class SigningKeyRepository(Protocol):
    """The keys that sign tokens; they belong to no organization."""

    async def add(self, key: SigningKey) -> None:
        """Stores a key."""
        ...

    async def usable(self, now: datetime) -> Sequence[SigningKey]:
        """Those whose tokens may be good or will be, newest first."""
        ...

    async def retire(self, key_ids: Sequence[str], at: datetime) -> None:
        """Says when the last token of each will have expired."""
        ...

    async def drop_retired(self, now: datetime) -> None:
        """Forgets those whose last token has expired."""
        ...


class RevocationRepository(Protocol):
    """Which tokens are void; of all organizations. Recording one comes last in a transaction: others wait for its end."""

    async def void(self, subject: str, now: datetime) -> None:
        """All tokens of a subject, those issued from now on included."""
        ...

    async def restore(self, subject: str, now: datetime) -> None:
        """Those issued from now on are good again."""
        ...

    async def after(self, position: int, limit: int, now: datetime) -> Sequence[Revocation]:
        """What was recorded after a position, oldest first, without what is over."""
        ...
