"""Tokens: an API key goes in, a token of 15 minutes comes out."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from chassis import ids
from chassis.errors import Unauthenticated
from chassis.identity import Identity, Role, role_insufficient
from user_svc.domain.api_key import hash_secret, is_secret
from user_svc.domain.organization import Organization
from user_svc.domain.token import LIFETIME, Claims, IssuedToken
from user_svc.domain.user import User
from user_svc.interfaces.directory import Directory
from user_svc.interfaces.signing import SigningKeys, TokenSigner


class TokenManager:
    """Issues tokens to users and to services, and says whom one stands for.

    `service_keys` maps the SHA-256 of each service's key to its name.
    """

    def __init__(
        self, directory: Directory, keys: SigningKeys, signer: TokenSigner, service_keys: Mapping[bytes, str]
    ) -> None:
        self._directory = directory
        self._keys = keys
        self._signer = signer
        self._service_keys = service_keys

    async def issue(self, secret: str, for_organization: UUID | None, for_user: str) -> IssuedToken:
        """A token for whoever holds this secret. Only a service may name an organization and a user to act for.

        Raises Unauthenticated API_KEY_INVALID unless the key, its user and its organization may work; for a service
        NotFound and FailedPrecondition ORGANIZATION_NOT_ACTIVE about the organization; PermissionDenied.
        """
        digest = hash_secret(secret)
        service = self._service_keys.get(digest)
        if service is not None:
            return await self._issue_to_service(service, for_organization, for_user)
        if not is_secret(secret):
            raise _key_invalid()
        return await self._issue_to_user(digest, for_organization is not None or bool(for_user))

    async def _issue_to_user(self, digest: bytes, on_behalf: bool) -> IssuedToken:
        # Before looking: a token must not seem younger than the look that it rests on, or a revocation would miss it.
        now = datetime.now(UTC)
        holder = await self._directory.holder_of(digest)
        if holder is None or not holder.may_work(now):
            raise _key_invalid()
        if on_behalf:
            raise role_insufficient(Role.SERVICE.name)
        expire_time = now + LIFETIME
        if holder.key_expire_time is not None:
            expire_time = min(expire_time, holder.key_expire_time)
        claims = Claims(
            subject=ids.encode("user", holder.user_id),
            organization_id=holder.organization_id,
            role=holder.user_role,
            key_id=ids.encode("key", holder.key_id),
            on_behalf_of="",
            issue_time=now,
            expire_time=expire_time,
        )
        return await self._sign(claims)

    async def _issue_to_service(self, service: str, for_organization: UUID | None, for_user: str) -> IssuedToken:
        if for_user:
            # Recorded only, so it need not exist any more; but it must be an id.
            ids.decode("user", for_user)
        now = datetime.now(UTC)
        if for_organization is not None:
            organization = await self._directory.organization(for_organization)
            if organization is None:
                raise ids.absent("org", for_organization)
            organization.require_active()
        claims = Claims(
            subject=f"svc:{service}",
            organization_id=for_organization,
            role=Role.SERVICE,
            key_id="",
            on_behalf_of=for_user,
            issue_time=now,
            expire_time=now + LIFETIME,
        )
        return await self._sign(claims)

    async def _sign(self, claims: Claims) -> IssuedToken:
        key = await self._keys.signing()
        # Tokens count in whole seconds.
        return IssuedToken(self._signer.sign(claims, key), claims.expire_time.replace(microsecond=0))

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


def _key_invalid() -> Unauthenticated:
    """One answer for every way in which a key is not good: it says nothing about which keys exist."""
    return Unauthenticated("no active API key has this secret", reason="API_KEY_INVALID")
