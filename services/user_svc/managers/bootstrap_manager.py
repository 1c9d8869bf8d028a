"""The first start: an organization, its administrator, and the key that the operator chose."""

import logging
from datetime import UTC, datetime

from chassis import ids
from chassis.identity import Role
from user_svc.domain.api_key import ApiKeyDraft, hash_secret, is_secret, new_api_key
from user_svc.domain.organization import Organization, new_organization
from user_svc.domain.user import User, UserDraft, new_user
from user_svc.interfaces.unit_of_work import Transaction, UnitOfWork

_log = logging.getLogger(__name__)

ORGANIZATION = "default"
ADMIN = "admin"


class BootstrapManager:
    """Makes what is missing, at each start; any number of replicas may do so at once."""

    def __init__(self, unit_of_work: UnitOfWork) -> None:
        self._work = unit_of_work

    async def ensure(self, admin_secret: str) -> None:
        """Organization, administrator and key. A key that was stored once is left as it is, revoked ones included.

        Without a secret nothing is made. Raises ValueError when it is not `hk_` and 43 characters.
        """
        if not admin_secret:
            return
        if not is_secret(admin_secret):
            raise ValueError("the bootstrap admin key must be hk_ and 43 base64url characters")
        async with self._work.of_platform(None) as work:
            await work.alone("bootstrap")
            digest = hash_secret(admin_secret)
            if await work.api_keys.is_active_anywhere(digest):
                return
            organization = await self._organization(work)
            await work.enter(organization.id)
            if await work.api_keys.has_hash(digest):
                return
            admin = await self._admin(work, organization)
            draft = ApiKeyDraft(None, admin.id, "bootstrap", None)
            key = new_api_key(ids.new(), organization.id, admin.id, draft, admin_secret, datetime.now(UTC))
            await work.api_keys.add(key, digest)
            _log.info("stored the administrator's key", extra={"key": ids.encode("key", key.id)})

    async def _organization(self, work: Transaction) -> Organization:
        found = await work.organizations.named(ORGANIZATION)
        if found is not None:
            return found
        organization = new_organization(ids.new(), ORGANIZATION, "", datetime.now(UTC))
        await work.organizations.add(organization)
        return organization

    async def _admin(self, work: Transaction, organization: Organization) -> User:
        found = await work.users.named(ADMIN)
        if found is not None:
            return found
        draft = UserDraft(organization.id, ADMIN, "Administrator", "", Role.PLATFORM_ADMIN)
        admin = new_user(ids.new(), organization.id, draft, datetime.now(UTC))
        await work.users.add(admin)
        return admin
