"""API keys: long-lived secrets, of which only the hash is kept."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.identity import Identity, scope_insufficient
from chassis.scopes import ALL_SCOPES, covers

PREFIX = "hk_"
_SECRET = re.compile(r"hk_[A-Za-z0-9_-]{43}")
_HINT_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class ApiKey:
    """As stored: no secret. `hint` is its beginning, for people to recognize it by."""

    id: UUID
    organization_id: UUID
    user_id: UUID
    display_name: str
    hint: str
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    # None: all that the user's role allows.
    scopes: frozenset[str] | None
    last_used_time: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKeyDraft:
    """A key to be created. Without a user it is the caller's, without an organization that of the caller."""

    organization_id: UUID | None
    user_id: UUID | None
    display_name: str
    expire_time: datetime | None
    scopes: frozenset[str] | None = None


def require_scopes(caller: Identity, wanted: frozenset[str] | None) -> None:
    """Nobody gives a credential more than the own one has. Raises PermissionDenied SCOPE_INSUFFICIENT."""
    lacking = {scope for scope in wanted or ALL_SCOPES if not covers(caller.scopes, scope)}
    if lacking:
        raise scope_insufficient(" ".join(sorted(lacking)))


def new_secret() -> str:
    """`hk_` and 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def is_secret(text: str) -> bool:
    """Whether a text has the form of a key's secret."""
    return _SECRET.fullmatch(text) is not None


def hash_secret(secret: str) -> bytes:
    """SHA-256. No salt or stretching: 256 random bits cannot be guessed."""
    return hashlib.sha256(secret.encode()).digest()


def hint_of(secret: str) -> str:
    """The first characters, which identify a key to its owner and nothing more."""
    return secret[:_HINT_CHARACTERS]


def new_api_key(
    identifier: UUID, organization_id: UUID, user_id: UUID, draft: ApiKeyDraft, secret: str, now: datetime
) -> ApiKey:
    """A key that is not stored yet."""
    return ApiKey(
        id=identifier,
        organization_id=organization_id,
        user_id=user_id,
        display_name=draft.display_name,
        hint=hint_of(secret),
        create_time=now,
        expire_time=draft.expire_time,
        revoke_time=None,
        scopes=draft.scopes,
        last_used_time=None,
    )
