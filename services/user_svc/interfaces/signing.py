"""Signing tokens and keeping private keys."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from user_svc.domain.token import Claims, SigningKey


class KeyForge(Protocol):
    """Makes signing keys."""

    def make(self, activate_time: datetime | None = None) -> SigningKey:
        """A new key pair with its private part sealed, which signs from a time on; without one at once."""
        ...

    def check(self, key: SigningKey) -> None:
        """Raises ValueError when the key was sealed under another master key."""
        ...


class TokenSigner(Protocol):
    """Signs what a token says."""

    def sign(self, claims: Claims, key: SigningKey) -> str:
        """A JWT. Raises ValueError when the key was sealed under another master key."""
        ...


class SigningKeys(Protocol):
    """The keys at hand."""

    async def signing(self) -> SigningKey:
        """The key that signs now. Raises Unavailable when there is none."""
        ...

    async def usable(self) -> Sequence[SigningKey]:
        """All whose tokens may be good or will be, newest first."""
        ...
