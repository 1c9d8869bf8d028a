"""Users: created only in an organization that exists and is active, managed by its administrators."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from chassis import ids
from chassis.errors import etag_mismatch
from chassis.identity import Identity, Role
from chassis.once import Once
from user_svc.domain.etag import etag_of
from user_svc.domain.user import User, UserChange, UserDraft, new_user, require_reach, target_organization
from user_svc.interfaces.revocations import RevocationNotice
from user_svc.interfaces.unit_of_work import UnitOfWork


class UserManager:
    """Business rules of users."""

    def __init__(self, unit_of_work: UnitOfWork, notice: RevocationNotice) -> None:
        self._work = unit_of_work
        self._notice = notice

    async def create(self, caller: Identity, draft: UserDraft, once: Once[User]) -> User:
        """A new user. The organization is held still while it is done, so it cannot be deleted in between.

        Raises NotFound for another's organization (platform administrators may name one), FailedPrecondition
        ORGANIZATION_NOT_ACTIVE, AlreadyExists NAME_TAKEN, PermissionDenied for a role above the caller's.
        """
        caller.require(Role.ORGANIZATION_ADMIN)
        organization_id = target_organization(caller, draft.organization_id)
        require_reach(caller, draft.role)
        async with self._work.of(organization_id) as work, work.once(organization_id, once.key) as answer:
            organization = await work.organizations.get_for_share(organization_id)
            if organization is None:
                raise ids.absent("org", organization_id)
            organization.require_active()
            user = new_user(ids.new(), organization_id, draft, datetime.now(UTC))
            await work.users.add(user)
            answer.save(once.encode(user))
            return user

    async def get(self, caller: Identity, user_id: UUID) -> User:
        """One user of the caller's organization. Raises NotFound."""
        async with self._work.of(caller.organization_id) as work:
            found = await work.users.get(user_id)
        if found is None:
            raise ids.absent("user", user_id)
        return found

    async def page(self, caller: Identity, after: UUID | None, size: int) -> tuple[Sequence[User], bool]:
        """A page of the organization's users, oldest first, and whether there are more."""
        async with self._work.of(caller.organization_id) as work:
            found = await work.users.page(after, size + 1)
        return found[:size], len(found) > size

    async def update(self, caller: Identity, user_id: UUID, change: UserChange, etag: str) -> User:
        """Changes a user whose role, before and after, is not above the caller's. A disabled user's tokens are void.

        Raises NotFound, Aborted ETAG_MISMATCH, AlreadyExists NAME_TAKEN, PermissionDenied.
        """
        caller.require(Role.ORGANIZATION_ADMIN)
        async with self._work.of(caller.organization_id) as work:
            found = await work.users.get_for_update(user_id)
            if found is None or found.delete_time is not None:
                raise ids.absent("user", user_id)
            require_reach(caller, found.role)
            if change.role is not None:
                require_reach(caller, change.role)
            if etag and etag != etag_of(found):
                raise etag_mismatch()
            changed = await work.users.change(user_id, change)
            if changed.disabled != found.disabled:
                record = work.revocations.void if changed.disabled else work.revocations.restore
                await record(ids.encode("user", user_id), datetime.now(UTC))
        if changed.disabled != found.disabled:
            await self._notice.recorded()
        return changed

    async def delete(self, caller: Identity, user_id: UUID) -> None:
        """Removes a user and revokes its keys and tokens. Twice is OK. Raises NotFound, PermissionDenied."""
        caller.require(Role.ORGANIZATION_ADMIN)
        async with self._work.of(caller.organization_id) as work:
            found = await work.users.get_for_update(user_id)
            if found is None:
                raise ids.absent("user", user_id)
            require_reach(caller, found.role)
            if found.delete_time is None:
                await work.users.delete(user_id)
                await work.api_keys.revoke_all(user_id)
                await work.revocations.void(ids.encode("user", user_id), datetime.now(UTC))
        await self._notice.recorded()
