"""Organizations: made, changed and removed by platform administrators, seen by their own users."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from chassis import ids
from chassis.errors import FailedPrecondition, etag_mismatch
from chassis.identity import Identity, Role
from chassis.once import Once
from user_svc.domain.etag import etag_of
from user_svc.domain.organization import Organization, OrganizationChange, OrganizationState, new_organization
from user_svc.domain.purge import purge_time
from user_svc.interfaces.revocations import RevocationNotice
from user_svc.interfaces.unit_of_work import UnitOfWork


class OrganizationManager:
    """Business rules of organizations."""

    def __init__(self, unit_of_work: UnitOfWork, notice: RevocationNotice, grace: timedelta) -> None:
        self._work = unit_of_work
        self._notice = notice
        self._grace = grace

    async def create(self, caller: Identity, name: str, display_name: str, once: Once[Organization]) -> Organization:
        """A new, active organization. Raises AlreadyExists NAME_TAKEN, PermissionDenied."""
        caller.require(Role.PLATFORM_ADMIN)
        organization = new_organization(ids.new(), name, display_name, datetime.now(UTC))
        async with (
            self._work.of_platform(caller.organization_id) as work,
            work.once(caller.organization_id, once.key) as answer,
        ):
            await work.organizations.add(organization)
            answer.save(once.encode(organization))
        return organization

    async def get(self, caller: Identity, organization_id: UUID | None, include_deleted: bool = False) -> Organization:
        """One organization, the caller's own by default; a deleted one only for platform administrators who ask for that.

        Raises NotFound for another's, platform administrators aside.
        """
        wanted = organization_id or caller.organization_id
        if caller.at_least(Role.PLATFORM_ADMIN):
            scope = self._work.of_platform(caller.organization_id)
        else:
            scope = self._work.of(caller.organization_id)
        async with scope as work:
            found = await work.organizations.get(wanted)
            if found is None and include_deleted and caller.at_least(Role.PLATFORM_ADMIN):
                found = await work.organizations.get_deleted(wanted)
        if found is None:
            raise ids.absent("org", wanted)
        return found

    async def page(self, caller: Identity, after: UUID | None, size: int) -> tuple[Sequence[Organization], bool]:
        """A page of all organizations, oldest first, and whether there are more. Raises PermissionDenied."""
        caller.require(Role.PLATFORM_ADMIN)
        async with self._work.of_platform(caller.organization_id) as work:
            found = await work.organizations.page(after, size + 1)
        return found[:size], len(found) > size

    async def update(
        self, caller: Identity, organization_id: UUID, change: OrganizationChange, etag: str
    ) -> Organization:
        """Changes one. An organization's own administrators may rename it; only platform administrators set its state and limits.
        The tokens of a disabled one are void, its services' included.

        Raises NotFound, Aborted ETAG_MISMATCH, PermissionDenied, FailedPrecondition RESOURCE_IN_USE for the state of the
        caller's own.
        """
        caller.require(Role.ORGANIZATION_ADMIN)
        if change.state is not None:
            self._require_foreign(caller, organization_id)
        if caller.at_least(Role.PLATFORM_ADMIN):
            scope = self._work.of_platform(caller.organization_id)
        else:
            scope = self._work.of(caller.organization_id)
        async with scope as work:
            found = await work.organizations.get_for_update(organization_id)
            if found is None or found.state is OrganizationState.DELETED:
                raise ids.absent("org", organization_id)
            if change.state is not None or change.limits is not None:
                caller.require(Role.PLATFORM_ADMIN)
            if etag and etag != etag_of(found):
                raise etag_mismatch()
            if change.limits is not None:
                change = replace(change, limits=change.merged(found.limits))
            changed = await work.organizations.change(organization_id, change)
            if changed.state is not found.state:
                active = changed.state is OrganizationState.ACTIVE
                record = work.revocations.restore if active else work.revocations.void
                await record(ids.encode("org", organization_id), datetime.now(UTC))
        if changed.state is not found.state:
            await self._notice.recorded()
        return changed

    async def delete(self, caller: Identity, organization_id: UUID, purge_now: bool = False) -> None:
        """Refuses all of its credentials from now on: users are disabled, keys revoked, tokens void. Twice is OK.
        Its data goes after the time of grace, or as soon as nobody can write any more.

        Raises NotFound, PermissionDenied, FailedPrecondition RESOURCE_IN_USE for the caller's own.
        """
        caller.require(Role.PLATFORM_ADMIN)
        self._require_foreign(caller, organization_id)
        now = datetime.now(UTC)
        goes = purge_time(now, timedelta() if purge_now else self._grace)
        async with self._work.of_platform(caller.organization_id) as work:
            found = await work.organizations.get_for_update(organization_id)
            if found is None:
                raise ids.absent("org", organization_id)
            if found.state is OrganizationState.DELETED:
                if purge_now and found.purge_time is not None and found.purge_time > goes:
                    await work.organizations.purge_from(organization_id, goes)
            else:
                await work.organizations.delete(organization_id, goes)
                await work.enter(organization_id)
                await work.users.disable_all()
                await work.api_keys.revoke_all()
                await work.trusted_issuers.delete_all()
                await work.revocations.void(ids.encode("org", organization_id), now)
        await self._notice.recorded()

    @staticmethod
    def _require_foreign(caller: Identity, organization_id: UUID) -> None:
        """A platform administrator who disabled or deleted the own organization could not undo it."""
        if organization_id == caller.organization_id and caller.at_least(Role.PLATFORM_ADMIN):
            raise FailedPrecondition(
                "the caller works in this organization", reason="RESOURCE_IN_USE", metadata={"used_by": caller.subject}
            )
