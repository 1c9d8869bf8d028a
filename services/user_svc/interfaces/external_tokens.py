"""Tokens of external issuers: whose may be good, and verifying them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from user_svc.domain.external_token import VerifiedToken


class TrustedNames(Protocol):
    """Which issuers any organization trusts."""

    async def trusted(self) -> Collection[str]:
        """Each `iss`, once. Raises Unavailable when that was never known."""
        ...

    def forget(self) -> None:
        """What is known is not the newest any more: one was added, changed or removed."""
        ...


class TokenCheck(Protocol):
    """Verifies what an issuer has signed."""

    async def verify(self, token: str, trusted: Collection[str]) -> VerifiedToken:
        """What a token of one of these issuers says.

        Raises Unauthenticated TOKEN_INVALID or TOKEN_EXPIRED, Unavailable when the issuer's keys cannot be had.
        """
        ...


class PublishedKeys(Protocol):
    """What the door verifies external tokens with."""

    def published(self) -> Sequence[Mapping[str, str]]:
        """The public keys of all trusted issuers as members of JWKs; never none."""
        ...


class IssuerHealth(Protocol):
    """How it stands with the keys of issuers."""

    def refuse_address(self, issuer: str) -> str:
        """Why an issuer's address can never be asked for keys; empty if it can."""
        ...

    def problem(self, issuer: str) -> str:
        """Why its keys cannot be read just now; empty if they can."""
        ...
