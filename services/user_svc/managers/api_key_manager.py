"""API keys: their secret is shown once, and then only its hash is known."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from chassis import audit, ids
from chassis.errors import DomainError
from chassis.identity import Identity, Role, role_insufficient
from user_svc.domain.api_key import ApiKey, ApiKeyDraft, hash_secret, new_api_key, new_secret, require_scopes
from user_svc.domain.user import require_reach, target_organization
from user_svc.interfaces.revocations import RevocationNotice
from user_svc.interfaces.unit_of_work import UnitOfWork


class ApiKeyManager:
    """Business rules of API keys."""

    def __init__(self, unit_of_work: UnitOfWork, notice: RevocationNotice) -> None:
        self._work = unit_of_work
        self._notice = notice

    async def create(self, caller: Identity, draft: ApiKeyDraft) -> tuple[ApiKey, str]:
        """A new key and its secret, which reaches no further than the caller's own credential. For another user than the
        caller it takes an administrator, a platform administrator in another organization.

        Raises NotFound, PermissionDenied, FailedPrecondition ORGANIZATION_NOT_ACTIVE.
        """
        own = user_of(caller)
        require_scopes(caller, draft.scopes)
        user_id = draft.user_id or own
        if user_id != own:
            caller.require(Role.ORGANIZATION_ADMIN)
        organization_id = target_organization(caller, draft.organization_id)
        secret = new_secret()
        async with self._work.of(organization_id) as work:
            organization = await work.organizations.get_for_share(organization_id)
            if organization is None:
                raise ids.absent("org", organization_id)
            organization.require_active()
            user = await work.users.get_for_share(user_id)
            if user is None:
                raise ids.absent("user", user_id)
            require_reach(caller, user.role)
            key = new_api_key(ids.new(), organization_id, user_id, draft, secret, datetime.now(UTC))
            await work.api_keys.add(key, hash_secret(secret))
            audit.concerning(ids.encode("key", key.id))
        return key, secret

    async def page(
        self, caller: Identity, user_id: UUID | None, after: UUID | None, size: int
    ) -> tuple[Sequence[ApiKey], bool]:
        """A page of keys, oldest first, and whether there are more: all for an administrator, else the caller's own.

        Raises PermissionDenied for another's keys, NotFound for a user that is not there.
        """
        wanted = user_id
        if not caller.at_least(Role.ORGANIZATION_ADMIN):
            wanted = user_of(caller)
            if user_id not in (None, wanted):
                raise role_insufficient(Role.ORGANIZATION_ADMIN.name)
        async with self._work.of(caller.organization_id) as work:
            if user_id is not None and await work.users.get(user_id) is None:
                raise ids.absent("user", user_id)
            found = await work.api_keys.page(wanted, after, size + 1)
        return found[:size], len(found) > size

    async def revoke(self, caller: Identity, key_id: UUID) -> None:
        """Makes a key useless, and the tokens that were issued for it. Twice is OK.

        Raises NotFound (for another user's key too, unless the caller is an administrator), PermissionDenied for the key of
        a user above the caller.
        """
        async with self._work.of(caller.organization_id) as work:
            key = await work.api_keys.get(key_id)
            if key is None:
                raise ids.absent("key", key_id)
            if ids.encode("user", key.user_id) != caller.subject:
                if not caller.at_least(Role.ORGANIZATION_ADMIN):
                    raise ids.absent("key", key_id)
                owner = await work.users.get(key.user_id)
                if owner is not None:
                    require_reach(caller, owner.role)
            if key.revoke_time is None:
                await work.api_keys.revoke(key_id)
                await work.revocations.void(ids.encode("key", key_id), datetime.now(UTC))
        await self._notice.recorded()


def user_of(caller: Identity) -> UUID:
    """The caller's user. Raises PermissionDenied for a service, which has no keys here."""
    try:
        return ids.decode("user", caller.subject)
    except DomainError:
        raise role_insufficient(Role.VIEWER.name) from None
