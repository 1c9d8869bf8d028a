"""Signing tokens and keeping private keys."""

from collections.abc import Sequence
from typing import Protocol

from user_svc.domain.token import Claims, SigningKey


class KeyForge(Protocol):
    """Makes signing keys."""

    def make(self) -> SigningKey:
        """A new key pair with its private part sealed."""
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
        """All whose tokens may be good, newest first."""
        ...
