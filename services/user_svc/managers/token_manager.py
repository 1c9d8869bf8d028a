"""Tokens: an API key goes in, a token of 15 minutes comes out."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from chassis import audit, ids
from chassis.errors import Unauthenticated
from chassis.identity import NO_ORGANIZATION, Identity, Role, role_insufficient
from chassis.revocations import Revocations
from user_svc.domain.api_key import hash_secret, is_secret
from user_svc.domain.organization import Organization
from user_svc.domain.token import LIFETIME, Claims, IssuedToken
from user_svc.domain.user import User
from user_svc.interfaces.directory import Directory
from user_svc.interfaces.key_uses import KeyUses
from user_svc.interfaces.signing import SigningKeys, TokenSigner

# After a user or an organization was enabled again, a token of the same second would still be void: such a one is not given out.
_PATIENCE = 2


class TokenManager:
    """Issues tokens to users and to services, and says whom one stands for.

    `service_keys` maps the SHA-256 of each service's key to its name.
    """

    def __init__(
        self,
        directory: Directory,
        keys: SigningKeys,
        signer: TokenSigner,
        service_keys: Mapping[bytes, str],
        revocations: Revocations,
        uses: KeyUses,
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._signer = signer
        self._service_keys = service_keys
        self._revocations = revocations
        self._uses = uses

    async def issue(self, secret: str, for_organization: UUID | None, for_user: str) -> IssuedToken:
        """A token for whoever holds this secret. Only a service may name an organization and a user to act for.

        Raises Unauthenticated API_KEY_INVALID unless the key, its user and its organization may work; for a service
        NotFound and FailedPrecondition ORGANIZATION_NOT_ACTIVE about the organization; PermissionDenied.
        """
        claims = await self._claims(secret, for_organization, for_user)
        if claims.key_id:
            self._uses.note(ids.decode("key", claims.key_id), claims.issue_time)
        for _ in range(_PATIENCE):
            if not self._revocations.is_void(_bearer(claims)):
                break
            await asyncio.sleep(1 - claims.issue_time.microsecond / 1e6)
            claims = await self._claims(secret, for_organization, for_user)
        key = await self._keys.signing()
        # Tokens count in whole seconds.
        return IssuedToken(self._signer.sign(claims, key), claims.expire_time.replace(microsecond=0))

    async def _claims(self, secret: str, for_organization: UUID | None, for_user: str) -> Claims:
        digest = hash_secret(secret)
        service = self._service_keys.get(digest)
        if service is not None:
            return await self._service_claims(service, for_organization, for_user)
        if not is_secret(secret):
            raise _key_invalid()
        return await self._user_claims(digest, for_organization is not None or bool(for_user))

    async def _user_claims(self, digest: bytes, on_behalf: bool) -> Claims:
        # Before looking: a token must not seem younger than the look that it rests on, or a revocation would miss it.
        now = datetime.now(UTC)
        holder = await self._directory.holder_of(digest)
        if holder is not None:
            audit.acting_as(holder.organization_id, ids.encode("user", holder.user_id))
            audit.concerning(ids.encode("key", holder.key_id))
        if holder is None or not holder.may_work(now):
            raise _key_invalid()
        if on_behalf:
            raise role_insufficient(Role.SERVICE.name)
        expire_time = now + LIFETIME
        if holder.key_expire_time is not None:
            expire_time = min(expire_time, holder.key_expire_time)
        return Claims(
            subject=ids.encode("user", holder.user_id),
            organization_id=holder.organization_id,
            role=holder.user_role,
            key_id=ids.encode("key", holder.key_id),
            on_behalf_of="",
            issue_time=now,
            expire_time=expire_time,
            scopes=holder.key_scopes,
        )

    async def _service_claims(self, service: str, for_organization: UUID | None, for_user: str) -> Claims:
        if for_user:
            # Recorded only, so it need not exist any more; but it must be an id.
            ids.decode("user", for_user)
        now = datetime.now(UTC)
        if for_organization is not None:
            organization = await self._directory.organization(for_organization)
            if organization is None:
                raise ids.absent("org", for_organization)
            organization.require_active()
        return Claims(
            subject=f"svc:{service}",
            organization_id=for_organization,
            role=Role.SERVICE,
            key_id="",
            on_behalf_of=for_user,
            issue_time=now,
            expire_time=now + LIFETIME,
        )

    async def who_am_i(self, caller: Identity) -> tuple[Organization | None, User | None]:
        """The caller's organization and user; no user for a service, no organization for one that acts for none.

        Raises Unauthenticated TOKEN_INVALID when the user or the organization is gone since the token was issued.
        """
        if caller.role is Role.SERVICE:
            return await self._directory.organization(caller.organization_id), None
        account = await self._directory.account(caller.organization_id, ids.decode("user", caller.subject))
        if account is None:
            raise Unauthenticated("the token's user is gone", reason="TOKEN_INVALID")
        return account


def _bearer(claims: Claims) -> Identity:
    """Whom others will take the bearer of a token with these claims for."""
    return Identity(
        organization_id=claims.organization_id or NO_ORGANIZATION,
        subject=claims.subject,
        role=claims.role,
        token="",
        key_id=claims.key_id,
        issued_at=float(int(claims.issue_time.timestamp())),
    )


def _key_invalid() -> Unauthenticated:
    """One answer for every way in which a key is not good: it says nothing about which keys exist."""
    return Unauthenticated("no active API key has this secret", reason="API_KEY_INVALID")
