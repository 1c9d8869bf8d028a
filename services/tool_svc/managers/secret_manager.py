"""Secrets of an organization: set, listed by name, deleted; never shown."""

from collections.abc import Sequence

from chassis import ids
from chassis.errors import invalid_field
from chassis.identity import Identity
from tool_svc.domain.secret import Secret
from tool_svc.interfaces.unit_of_work import UnitOfWork
from tool_svc.interfaces.vault import Vault


class SecretManager:
    """Business rules of secrets."""

    def __init__(self, unit_of_work: UnitOfWork, vault: Vault) -> None:
        self._work = unit_of_work
        self._vault = vault

    async def set(self, caller: Identity, name: str, value: str) -> Secret:
        """Makes or replaces a secret. Raises InvalidArgument for a value that no environment can hold."""
        if "\0" in value:
            raise invalid_field("value", "must not hold NUL")
        sealed = await self._vault.seal(caller.organization_id, name, value)
        async with self._work.of(caller.organization_id) as work:
            return await work.secrets.put(ids.new(), sealed)

    async def page(self, caller: Identity, after_name: str | None, size: int) -> tuple[Sequence[Secret], bool]:
        """A page by name, and whether there is more."""
        async with self._work.of(caller.organization_id) as work:
            found = await work.secrets.page(after_name, size + 1)
        return found[:size], len(found) > size

    async def delete(self, caller: Identity, name: str) -> None:
        """Removes a secret. One that is not there is OK."""
        async with self._work.of(caller.organization_id) as work:
            await work.secrets.delete(name)
