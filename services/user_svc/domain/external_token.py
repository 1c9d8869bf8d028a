"""Tokens of external issuers: what a verified one says, and the user that its bearer becomes here."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.identity import Role
from chassis.scopes import ALL_SCOPES, covers
from user_svc.domain.trusted_issuer import TrustedIssuer
from user_svc.domain.user import UserDraft

# However long an issuer makes its tokens, a socket opened with one lasts no longer.
LONGEST = timedelta(hours=24)
_NOT_IN_HANDLES = re.compile(r"[^a-z0-9._-]+")
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature, issuer and times are good. `claims` is all that it says."""

    issuer: str
    audiences: tuple[str, ...]
    subject: str
    expire_time: datetime
    claims: Mapping[str, Any] = field(repr=False)

    def scopes(self, allowed: frozenset[str] | None) -> frozenset[str] | None:
        """What it is limited to: what its issuer is, and what of Hearth's scopes it names itself, if it names any."""
        named = self.claims.get("scope")
        own = frozenset(named.split()) & ALL_SCOPES if isinstance(named, str) else frozenset[str]()
        if not own:
            return allowed
        return frozenset(scope for scope in ALL_SCOPES if covers(own, scope) and covers(allowed, scope))


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """Whom a token stands for, found out at `resolve_time`, to be relied on until `keep_until`."""

    organization_id: UUID
    user_id: UUID
    trusted_issuer_id: UUID
    role: Role
    scopes: frozenset[str] | None
    resolve_time: datetime
    keep_until: datetime
    expire_time: datetime


def draft_of(token: VerifiedToken, trusted: TrustedIssuer, role: Role) -> UserDraft:
    """The user that the bearer of a token becomes. The e-mail address counts only when the issuer has verified it."""
    email = token.claims.get("email")
    good = isinstance(email, str) and token.claims.get("email_verified") is True and len(email) <= 254
    return UserDraft(
        organization_id=trusted.organization_id,
        name=_handle(token),
        display_name=_shown(token.claims.get("name") or token.claims.get("preferred_username")),
        email=email if isinstance(email, str) and good and _EMAIL.fullmatch(email) else "",
        role=role,
        external_issuer=token.issuer,
        external_subject=token.subject,
    )


def _handle(token: VerifiedToken) -> str:
    """A name that can be read and is nobody else's: it ends with a digest of who it is."""
    digest = hashlib.sha256(f"{token.issuer}\0{token.subject}".encode()).hexdigest()[:12]
    for claim in ("preferred_username", "email", "name"):
        value = token.claims.get(claim)
        text = value.split("@")[0].lower() if isinstance(value, str) else ""
        if handle := _NOT_IN_HANDLES.sub("-", text)[:48].strip("._-"):
            return f"{handle}-{digest}"
    return f"user-{digest}"


def _shown(value: object) -> str:
    """A text that can be stored and shown: without control characters and halves of characters."""
    return _UNSHOWN.sub("", value)[:128].strip() if isinstance(value, str) else ""
