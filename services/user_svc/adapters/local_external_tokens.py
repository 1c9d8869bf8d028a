"""user_svc's own way to know whom an external token stands for: it asks its manager instead of calling itself."""

from collections.abc import Collection

from chassis import ids
from chassis.external_tokens import Resolved
from chassis.identity import Identity
from user_svc.interfaces.external_tokens import TrustedNames
from user_svc.managers.external_token_manager import ExternalTokenManager


class LocalExternalTokens:
    """A chassis ExternalTokenSource."""

    def __init__(self, manager: ExternalTokenManager, issuers: TrustedNames) -> None:
        self._manager = manager
        self._issuers = issuers

    async def issuers(self) -> Collection[str]:
        return await self._issuers.trusted()

    async def resolve(self, token: str) -> Resolved:
        found = await self._manager.resolve(token)
        identity = Identity(
            organization_id=found.organization_id,
            subject=ids.encode("user", found.user_id),
            role=found.role,
            token=token,
            key_id=ids.encode("issuer", found.trusted_issuer_id),
            expires_at=found.expire_time.timestamp(),
            issued_at=found.resolve_time.timestamp(),
            scopes=found.scopes,
        )
        return Resolved(identity, found.keep_until.timestamp())
