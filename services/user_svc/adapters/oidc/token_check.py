"""Verifying tokens of external issuers."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from chassis.errors import Unauthenticated
from chassis.identity import token_expired
from chassis.revocations import CLOCK_LEEWAY_S
from user_svc.adapters.oidc.issuer_keys import IssuerKeys
from user_svc.adapters.oidc.public_keys import ALGORITHMS
from user_svc.domain.external_token import VerifiedToken

_MOST_AUDIENCES = 16
_MOST_SUBJECT = 255
# No token is good for so long that a time could not be told.
_LONGEST = timedelta(days=366)
_REQUIRED = ["iss", "aud", "sub", "exp", "iat"]


class OidcTokenCheck:
    """A TokenCheck over the keys of trusted issuers. `own_issuer` is this Hearth's: nobody else speaks for it."""

    def __init__(self, keys: IssuerKeys, own_issuer: str) -> None:
        self._keys = keys
        self._own_issuer = own_issuer

    async def verify(self, token: str, trusted: Collection[str]) -> VerifiedToken:
        header, claims = _unverified(token)
        algorithm, key_id, issuer = header.get("alg"), header.get("kid") or None, claims.get("iss")
        if algorithm not in ALGORITHMS or not isinstance(key_id, str | None) or "crit" in header:
            raise _invalid("the token is not signed as it must be")
        if not isinstance(issuer, str) or issuer == self._own_issuer or issuer not in trusted:
            raise _invalid("the token's issuer is not trusted")
        key = await self._keys.find(issuer, key_id, algorithm)
        try:
            good = jwt.decode(
                token,
                key.public,
                algorithms=[algorithm],
                issuer=issuer,
                leeway=CLOCK_LEEWAY_S,
                # Which audience it must be is looked up: see ExternalTokenManager.
                options={"require": _REQUIRED, "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            raise token_expired() from None
        except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError):
            raise _invalid("the token is not valid") from None
        return _verified(issuer, good)


def _verified(issuer: str, claims: dict[str, Any]) -> VerifiedToken:
    audience, subject = claims["aud"], claims["sub"]
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or not 0 < len(audiences) <= _MOST_AUDIENCES:
        raise _invalid("the token's audience is not valid")
    if not all(isinstance(one, str) and one.isprintable() for one in audiences):
        raise _invalid("the token's audience is not valid")
    if not isinstance(subject, str) or not 0 < len(subject) <= _MOST_SUBJECT or not subject.isprintable():
        raise _invalid("the token's subject is not valid")
    expires_at = claims["exp"]
    if not isinstance(expires_at, int | float) or isinstance(expires_at, bool):
        raise _invalid("the token's end is not valid")
    latest = datetime.now(UTC) + _LONGEST
    expire_time = latest if expires_at >= latest.timestamp() else datetime.fromtimestamp(expires_at, UTC)
    return VerifiedToken(issuer, tuple(audiences), subject, expire_time, claims)


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, to know whose key to take; nothing in them is believed yet."""
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise _invalid("the token is malformed") from None
    return parts["header"], parts["payload"]


def _invalid(message: str) -> Unauthenticated:
    return Unauthenticated(message, reason="TOKEN_INVALID")
