"""The values of secrets, where they are stored sealed."""

import logging
from collections.abc import Mapping, Sequence
from uuid import UUID

from tool_svc.interfaces.repositories import CallReader
from tool_svc.interfaces.vault import CannotOpen, Vault

_LOG = logging.getLogger(__name__)


class StoredSecrets:
    """Implements SecretReader. What cannot be opened counts as not there; the log says which key it needs."""

    def __init__(self, reader: CallReader, vault: Vault) -> None:
        self._reader = reader
        self._vault = vault

    async def read(self, organization_id: UUID, names: Sequence[str]) -> Mapping[str, str]:
        opened: dict[str, str] = {}
        for secret in await self._reader.secrets(organization_id, names) if names else ():
            try:
                opened[secret.name] = await self._vault.open(organization_id, secret)
            except CannotOpen as error:
                extra = {"secret": secret.name, "key_id": secret.key_id, "problem": str(error)}
                _LOG.error("a secret cannot be opened", extra=extra)
        return opened
