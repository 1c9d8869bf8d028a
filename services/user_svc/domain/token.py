"""Tokens and the keys that sign them."""

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from chassis.identity import Role

LIFETIME = timedelta(minutes=15)
# A key that signs no more is published this much longer than its last token lives: for clocks that differ, and for a replica
# that has not noticed yet.
_RETIREMENT_SLACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says. `organization_id` is None only for a service that acts for none."""

    subject: str
    organization_id: UUID | None
    role: Role
    key_id: str
    on_behalf_of: str
    issue_time: datetime
    expire_time: datetime
    # None: no limit but the role.
    scopes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A signed token."""

    token: str = field(repr=False)
    expire_time: datetime


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whom an API key stands for, if everything about it is in order: see `TokenManager`."""

    organization_id: UUID
    organization_active: bool
    key_id: UUID
    key_expire_time: datetime | None
    key_scopes: frozenset[str] | None
    user_id: UUID
    user_role: Role
    user_disabled: bool

    def may_work(self, now: datetime) -> bool:
        """Whether a token may be issued for this key now."""
        expired = self.key_expire_time is not None and self.key_expire_time <= now
        return self.organization_active and not self.user_disabled and not expired


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair. The private part is sealed: only the process that holds the master key can use it."""

    key_id: str
    public_key: bytes
    sealed_private_key: bytes = field(repr=False)
    create_time: datetime
    # From then on no token that it signed is good any more, None while nothing replaces it.
    retire_time: datetime | None
    # From then on it signs; it is published before, so that every verifier knows it by then.
    activate_time: datetime

    def jwk(self) -> dict[str, str]:
        """The public part as members of a JWK (RFC 7517, RFC 8037)."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _base64url(self.public_key),
            "kid": self.key_id,
            "alg": "EdDSA",
            "use": "sig",
        }


@dataclass(frozen=True, slots=True)
class Rotation:
    """One signing key takes over from the others: when it begins to sign, and when they are no longer published."""

    key_id: str
    activate_time: datetime
    previous_retire_time: datetime


def retirement(successor_activates: datetime) -> datetime:
    """When the last token of a key has expired that signs until its successor does."""
    return successor_activates + LIFETIME + _RETIREMENT_SLACK


def thumbprint(public_key: bytes) -> str:
    """The id of an Ed25519 key: its JWK thumbprint (RFC 7638), so that two keys never share one."""
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{_base64url(public_key)}"}}'
    return _base64url(hashlib.sha256(members.encode()).digest())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
