"""Tokens of external issuers: verified, led to one organization, and to a user that is made at first sight."""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from chassis import audit, ids
from chassis.errors import AlreadyExists, Unauthenticated
from chassis.identity import Identity, Role, credential_revoked
from chassis.revocations import Revocations
from user_svc.domain.external_token import LONGEST, ExternalIdentity, VerifiedToken, draft_of
from user_svc.domain.organization import OrganizationState
from user_svc.domain.token import LIFETIME
from user_svc.domain.trusted_issuer import TrustedIssuer
from user_svc.domain.user import User, UserChange, UserDraft, new_user
from user_svc.interfaces.directory import Directory
from user_svc.interfaces.external_tokens import TokenCheck, TrustedNames
from user_svc.interfaces.unit_of_work import UnitOfWork

# After something was changed, what is found out in the same second would be void: see `TokenManager`.
_PATIENCE = 2
_MAX_SEEN = 10_000


class ExternalTokenManager:
    """Says whom a token stands for. Whoever relies on it asks again after 15 minutes: no revocation is remembered for longer."""

    def __init__(
        self,
        unit_of_work: UnitOfWork,
        directory: Directory,
        issuers: TrustedNames,
        check: TokenCheck,
        revocations: Revocations,
    ) -> None:
        self._work = unit_of_work
        self._directory = directory
        self._issuers = issuers
        self._check = check
        self._revocations = revocations
        # Digests of tokens that signed somebody in, until when they are not a sign-in again.
        self._seen: OrderedDict[bytes, datetime] = OrderedDict()

    async def resolve(self, token: str) -> ExternalIdentity:
        """Raises Unauthenticated TOKEN_INVALID or TOKEN_EXPIRED for a token that lets nobody in here, Unavailable when that
        cannot be told now.
        """
        verified = await self._check.verify(token, await self._issuers.trusted())
        for _ in range(_PATIENCE):
            # Before looking: what is revoked while this looks must not seem older than what it finds.
            now = datetime.now(UTC)
            found = await self._find(verified, now)
            if not self._revocations.is_void(_bearer(found)):
                self._record(token, found)
                return found
            await asyncio.sleep(1 - now.microsecond / 1e6)
        raise credential_revoked()

    def _record(self, token: str, found: ExternalIdentity) -> None:
        """A token is one sign-in, however many services ask about it."""
        digest = hashlib.sha256(token.encode()).digest()
        if self._seen.get(digest, found.resolve_time) > found.resolve_time:
            return
        self._seen[digest] = found.keep_until
        if len(self._seen) > _MAX_SEEN:
            self._seen.popitem(last=False)
        audit.acting_as(found.organization_id, ids.encode("user", found.user_id))
        audit.concerning(ids.encode("issuer", found.trusted_issuer_id))

    async def _find(self, token: VerifiedToken, now: datetime) -> ExternalIdentity:
        trusted = await self._trusting(token)
        role = trusted.roles.role_of(token.claims)
        if role is None:
            raise _invalid("the token gives its bearer no role here")
        user = await self._user(token, trusted, role)
        return ExternalIdentity(
            organization_id=trusted.organization_id,
            user_id=user.id,
            trusted_issuer_id=trusted.id,
            role=role,
            scopes=token.scopes(trusted.scopes),
            resolve_time=now,
            keep_until=now + LIFETIME,
            expire_time=min(token.expire_time, now + LONGEST),
        )

    async def _trusting(self, token: VerifiedToken) -> TrustedIssuer:
        """The one by which a token belongs to an organization. Two can fit when it has two audiences: then none does."""
        found = await self._directory.trusting(token.issuer, token.audiences)
        fitting = [one for one in found if one.address.fits(token.claims)]
        if len(fitting) != 1:
            raise _invalid("the token is not meant for this Hearth")
        return fitting[0]

    async def _user(self, token: VerifiedToken, trusted: TrustedIssuer, role: Role) -> User:
        account = await self._directory.external_account(trusted.organization_id, token.issuer, token.subject)
        if account is None or account[0].state is not OrganizationState.ACTIVE:
            raise credential_revoked()
        user = account[1]
        if user is None:
            user = await self._make(token, draft_of(token, trusted, role), trusted.organization_id)
        if user.disabled:
            raise credential_revoked()
        if user.role is not role:
            user = await self._follow(trusted.organization_id, user.id, role)
        return user

    async def _make(self, token: VerifiedToken, draft: UserDraft, organization_id: UUID) -> User:
        """The user that comes for the first time. An address that another user has is not taken over: who it is says the issuer's
        subject alone.
        """
        try:
            return await self._add(token, draft, organization_id)
        except AlreadyExists as error:
            if error.metadata.get("field") != "email":
                raise
        without = replace(draft, email="")
        return await self._add(token, without, organization_id)

    async def _add(self, token: VerifiedToken, draft: UserDraft, organization_id: UUID) -> User:
        async with self._work.of(organization_id) as work:
            organization = await work.organizations.get_for_share(organization_id)
            if organization is None or organization.state is not OrganizationState.ACTIVE:
                raise credential_revoked()
            # Each service asks at the same time.
            await work.alone(f"user {organization_id} {token.issuer} {token.subject}")
            found = await work.users.external(token.issuer, token.subject)
            if found is None:
                found = new_user(ids.new(), organization_id, draft, datetime.now(UTC))
                await work.users.add(found)
                # The sign-in that made the user is on record with it.
                audit.acting_as(organization_id, ids.encode("user", found.id))
                audit.concerning(ids.encode("user", found.id))
        return found

    async def _follow(self, organization_id: UUID, user_id: UUID, role: Role) -> User:
        """The role that the user has from now on: what its issuer says."""
        async with self._work.of(organization_id) as work:
            user = await work.users.get_for_update(user_id)
            if user is None or user.delete_time is not None or user.disabled:
                raise credential_revoked()
            return user if user.role is role else await work.users.change(user_id, UserChange(role=role))


def _bearer(found: ExternalIdentity) -> Identity:
    """Whom others will take the bearer for."""
    return Identity(
        organization_id=found.organization_id,
        subject=ids.encode("user", found.user_id),
        role=found.role,
        token="",
        key_id=ids.encode("issuer", found.trusted_issuer_id),
        issued_at=found.resolve_time.timestamp(),
    )


def _invalid(message: str) -> Unauthenticated:
    return Unauthenticated(message, reason="TOKEN_INVALID")
