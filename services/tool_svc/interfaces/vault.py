"""How secrets are encrypted at rest."""

from collections.abc import Mapping, Sequence
from typing import Protocol
from uuid import UUID

from tool_svc.domain.secret import SealedSecret, WrappedKey


class CannotOpen(Exception):
    """What is sealed was made under a key that is not here, for another organization or name, or was changed."""


class KeyWrapper(Protocol):
    """Wraps data keys under a key that never leaves its keeper: a file's, or a key management service's."""

    async def wrap(self, data_key: bytes) -> WrappedKey:
        """Under the key in use now."""
        ...

    async def unwrap(self, key: WrappedKey) -> bytes:
        """Raises CannotOpen."""
        ...


class Vault(Protocol):
    """Seals values so that only this organization's secret of this name can be opened with them."""

    async def seal(self, organization_id: UUID, name: str, value: str) -> SealedSecret:
        """The value under a fresh key."""
        ...

    async def open(self, organization_id: UUID, secret: SealedSecret) -> str:
        """The value. Raises CannotOpen."""
        ...


class SecretReader(Protocol):
    """Reads the values of an organization's secrets."""

    async def read(self, organization_id: UUID, names: Sequence[str]) -> Mapping[str, str]:
        """Name → value of those that exist and can be opened."""
        ...
