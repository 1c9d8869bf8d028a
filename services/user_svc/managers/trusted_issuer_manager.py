"""Trusted issuers: each token leads to one organization, and what an administrator changes counts at once."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from chassis import ids
from chassis.errors import etag_mismatch, invalid_field
from chassis.identity import Identity, Role
from chassis.once import Once
from user_svc.domain.api_key import require_scopes
from user_svc.domain.etag import etag_of
from user_svc.domain.trusted_issuer import (
    TrustedIssuer,
    TrustedIssuerChange,
    TrustedIssuerDraft,
    TrustedIssuerState,
    new_trusted_issuer,
    require_free,
    require_own_audience,
    require_room,
)
from user_svc.interfaces.external_tokens import IssuerHealth, TrustedNames
from user_svc.interfaces.revocations import RevocationNotice
from user_svc.interfaces.unit_of_work import Transaction, UnitOfWork


class TrustedIssuerManager:
    """Business rules of trusted issuers. Whoever manages them gives away no more than the own credential has."""

    def __init__(
        self, unit_of_work: UnitOfWork, notice: RevocationNotice, names: TrustedNames, health: IssuerHealth
    ) -> None:
        self._work = unit_of_work
        self._notice = notice
        self._names = names
        self._health = health

    async def create(self, caller: Identity, draft: TrustedIssuerDraft, once: Once[TrustedIssuer]) -> TrustedIssuer:
        """A new one, enabled. Raises AlreadyExists ISSUER_TAKEN, ResourceExhausted QUOTA_EXCEEDED, PermissionDenied,
        InvalidArgument for an address that can never be asked for keys, FailedPrecondition ORGANIZATION_NOT_ACTIVE.
        """
        caller.require(Role.ORGANIZATION_ADMIN)
        require_scopes(caller, draft.scopes)
        draft.roles.check()
        if reason := self._health.refuse_address(draft.address.issuer):
            raise invalid_field("issuer", reason)
        organization_id, address = caller.organization_id, draft.address
        async with self._work.of(organization_id) as work, work.once(organization_id, once.key) as answer:
            organization = await work.organizations.get_for_share(organization_id)
            if organization is None:
                raise ids.absent("org", organization_id)
            organization.require_active()
            await work.alone("trusted issuers")
            require_own_audience(address.audience, organization_id)
            require_free(address, await work.trusted_issuers.addresses(address.issuer, address.audience))
            require_room(await work.trusted_issuers.count())
            issuer = new_trusted_issuer(ids.new(), organization_id, draft, datetime.now(UTC))
            await work.trusted_issuers.add(issuer)
            answer.save(once.encode(issuer))
        self._names.forget()
        return issuer

    async def get(self, caller: Identity, issuer_id: UUID) -> TrustedIssuer:
        """One of the caller's organization. Raises NotFound."""
        async with self._work.of(caller.organization_id) as work:
            found = await work.trusted_issuers.get(issuer_id)
        if found is None:
            raise ids.absent("issuer", issuer_id)
        return found

    async def page(self, caller: Identity, after: UUID | None, size: int) -> tuple[Sequence[TrustedIssuer], bool]:
        """A page of the organization's, oldest first, and whether there are more."""
        async with self._work.of(caller.organization_id) as work:
            found = await work.trusted_issuers.page(after, size + 1)
        return found[:size], len(found) > size

    async def update(self, caller: Identity, issuer_id: UUID, change: TrustedIssuerChange, etag: str) -> TrustedIssuer:
        """Changes one; tokens that were accepted before are looked at again. Raises NotFound, Aborted ETAG_MISMATCH,
        PermissionDenied, InvalidArgument.
        """
        caller.require(Role.ORGANIZATION_ADMIN)
        async with self._work.of(caller.organization_id) as work:
            found = await work.trusted_issuers.get_for_update(issuer_id)
            if found is None or found.delete_time is not None:
                raise ids.absent("issuer", issuer_id)
            if etag and etag != etag_of(found):
                raise etag_mismatch()
            wanted = _changed(found, change)
            # Also what it had: a limited credential must not let in by it whom it could not.
            require_scopes(caller, found.scopes)
            require_scopes(caller, wanted.scopes)
            changed = await work.trusted_issuers.change(wanted)
            if change.concerns_tokens:
                await _look_again(work, changed)
        self._names.forget()
        await self._notice.recorded()
        return changed

    async def delete(self, caller: Identity, issuer_id: UUID) -> None:
        """Refuses its tokens; its users stay. Twice is OK. Raises NotFound, PermissionDenied."""
        caller.require(Role.ORGANIZATION_ADMIN)
        async with self._work.of(caller.organization_id) as work:
            found = await work.trusted_issuers.get_for_update(issuer_id)
            if found is None:
                raise ids.absent("issuer", issuer_id)
            if found.delete_time is None:
                await work.trusted_issuers.delete(issuer_id)
                await work.revocations.void(ids.encode("issuer", issuer_id), datetime.now(UTC))
        self._names.forget()
        await self._notice.recorded()


def _changed(found: TrustedIssuer, change: TrustedIssuerChange) -> TrustedIssuer:
    return replace(
        found,
        display_name=change.display_name if "display_name" in change.paths else found.display_name,
        roles=change.roles_after(found.roles),
        scopes=change.scopes if "scopes" in change.paths else found.scopes,
        state=change.state if change.state is not None else found.state,
    )


async def _look_again(work: Transaction, issuer: TrustedIssuer) -> None:
    """What was found out about tokens before is void; while it is enabled, they may be good again from the next second on."""
    subject, now = ids.encode("issuer", issuer.id), datetime.now(UTC)
    await work.revocations.void(subject, now)
    if issuer.state is TrustedIssuerState.ENABLED:
        await work.revocations.restore(subject, now)
