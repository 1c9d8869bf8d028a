"""Tokens: verifying the JWT that a call carries. Each service does it itself, whatever stood in front of it."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

import jwt

from chassis import ids
from chassis.errors import DomainError, Unauthenticated, Unavailable
from chassis.external_tokens import ExternalTokens, foreign_issuer, is_external
from chassis.identity import NO_ORGANIZATION, Identity, Role, credential_revoked, token_expired
from chassis.jwks import JwksFromUserService
from chassis.revocations import CLOCK_LEEWAY_S, NothingRevoked, RevocationList, Revocations

__all__ = ["JwksFromUserService", "JwksSource", "TokenVerifier", "bearer"]

_log = logging.getLogger(__name__)

_CLAIMS = ["iss", "aud", "sub", "org", "role", "iat", "exp", "jti"]


class JwksSource(Protocol):
    """Where public keys come from."""

    async def fetch(self) -> Mapping[str, jwt.PyJWK]:
        """All keys that tokens may be signed with, by key id. Raises DomainError when they cannot be had."""
        ...


def bearer(header: str | bytes | None) -> str:
    """The token of an `authorization` header. Raises Unauthenticated TOKEN_MISSING or TOKEN_INVALID."""
    if not header:
        raise Unauthenticated("the call carries no credential", reason="TOKEN_MISSING")
    text = header if isinstance(header, str) else header.decode("ascii", "replace")
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _invalid("the authorization header must be `Bearer <token>`")
    return token


class TokenVerifier:
    """Verifies tokens against a JWKS and remembers those it has verified.

    A verified token costs a dictionary look-up until it expires. Keys are read again when a token names an unknown one
    (at most every `min_refresh_s` seconds) and when they are older than `max_age_s`; while the source does not answer,
    the known ones stay good. `revocations` are asked at each call; before they were read once, no token is good. Tokens of
    other issuers are `external`'s to judge; without it none is good.
    """

    def __init__(
        self,
        jwks_source: JwksSource,
        issuer: str = "hearth",
        audience: str = "hearth",
        *,
        cache_size: int = 10_000,
        min_refresh_s: float = 1.0,
        max_age_s: float = 300.0,
        revocations: RevocationList | None = None,
        external: ExternalTokens | None = None,
    ) -> None:
        self._source = jwks_source
        self._issuer = issuer
        self._audience = audience
        # With each identity, until when it may be relied on.
        self._cache: OrderedDict[str, tuple[Identity, float]] = OrderedDict()
        self._cache_size = cache_size
        self._min_refresh_s = min_refresh_s
        self._max_age_s = max_age_s
        self._revocations = revocations
        self._external = external
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._refreshing = asyncio.Lock()

    @property
    def revocations(self) -> Revocations:
        """What is revoked, for those who hold on to an identity for longer than a call."""
        return self._revocations or NothingRevoked()

    async def verify(self, token: str) -> Identity:
        """The identity that a token stands for.

        Raises Unauthenticated (TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED), or Unavailable when no key is known yet and
        none can be had.
        """
        known = self._cache.get(token)
        if known is not None and (identity := self._from_cache(token, *known)) is not None:
            return identity
        if self._revocations is not None:
            await self._revocations.load()
        identity, good_until = await self._judge(token)
        self._check(token, identity)
        if len(self._cache) >= self._cache_size:
            self._cache.popitem(last=False)
        self._cache[token] = identity, good_until
        return identity

    def forget(self, key_id: str) -> None:
        """Drops the cached tokens of an API key, so that the next call asks again."""
        for token in [token for token, (identity, _) in self._cache.items() if identity.key_id == key_id]:
            del self._cache[token]

    def _from_cache(self, token: str, identity: Identity, good_until: float) -> Identity | None:
        """None when it must be asked about again."""
        now = time.time()
        if good_until <= now:
            del self._cache[token]
            if identity.expires_at + CLOCK_LEEWAY_S <= now:
                raise token_expired()
            return None
        if is_external(identity) and self.revocations.is_void(identity):
            # What was found out about the token is void; it may mean something else now.
            del self._cache[token]
            return None
        self._check(token, identity)
        self._cache.move_to_end(token)
        return identity

    def _check(self, token: str, identity: Identity) -> None:
        if self._revocations is not None and self._revocations.is_void(identity):
            self._cache.pop(token, None)
            raise credential_revoked()

    async def _judge(self, token: str) -> tuple[Identity, float]:
        issuer = None if self._external is None else foreign_issuer(token, self._issuer)
        if self._external is not None and issuer is not None:
            found = await self._external.resolve(token, issuer)
            return found.identity, min(found.good_until, found.identity.expires_at + CLOCK_LEEWAY_S)
        identity = await self._verify_signature(token)
        return identity, identity.expires_at + CLOCK_LEEWAY_S

    async def _verify_signature(self, token: str) -> Identity:
        if not token:
            raise Unauthenticated("the call carries no credential", reason="TOKEN_MISSING")
        key = await self._key(_key_id(token))
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=self._audience,
                issuer=self._issuer,
                leeway=CLOCK_LEEWAY_S,
                options={"require": _CLAIMS},
            )
        except jwt.ExpiredSignatureError:
            raise token_expired() from None
        except jwt.InvalidTokenError:
            raise _invalid("the token is not valid") from None
        return _identity(token, claims)

    async def _key(self, key_id: str) -> jwt.PyJWK:
        now = time.monotonic()
        known = self._keys.get(key_id)
        if known is None or now - self._fetched_at > self._max_age_s:
            await self._refresh()
            known = self._keys.get(key_id)
        if known is not None:
            return known
        if not self._keys:
            raise Unavailable("tokens cannot be checked now", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0)
        raise _invalid("the token is signed with an unknown key")

    async def _refresh(self) -> None:
        asked_at = time.monotonic()
        async with self._refreshing:
            # Who waited for another's refresh takes its outcome.
            if self._tried_at >= asked_at or time.monotonic() - self._tried_at < self._min_refresh_s:
                return
            self._tried_at = time.monotonic()
            try:
                self._keys = await self._source.fetch()
                self._fetched_at = time.monotonic()
            except DomainError as error:
                _log.warning("signing keys cannot be read: %s", error.message, extra={"reason": error.reason})


def _key_id(token: str) -> str:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise _invalid("the token is malformed") from None
    key_id = header.get("kid")
    if header.get("alg") != "EdDSA" or not isinstance(key_id, str):
        raise _invalid("the token is not signed as it must be")
    return key_id


def _identity(token: str, claims: Mapping[str, Any]) -> Identity:
    try:
        role = Role[str(claims["role"])]
        organization_id = _organization(str(claims["org"]), role)
    except (DomainError, KeyError):
        raise _invalid("the token is not valid") from None
    return Identity(
        organization_id=organization_id,
        subject=str(claims["sub"]),
        role=role,
        token=token,
        key_id=str(claims.get("key", "")),
        on_behalf_of=str(claims.get("obo") or ""),
        expires_at=float(claims["exp"]),
        issued_at=float(claims["iat"]),
        scopes=_scopes(claims),
    )


def _scopes(claims: Mapping[str, Any]) -> frozenset[str] | None:
    """Those of RFC 8693. A claim that is there limits, even to nothing."""
    claim = claims.get("scope")
    return None if claim is None else frozenset(str(claim).split())


def _organization(claim: str, role: Role) -> UUID:
    """Only a service may act for no organization."""
    if not claim and role is Role.SERVICE:
        return NO_ORGANIZATION
    return ids.decode("org", claim)


def _invalid(message: str) -> Unauthenticated:
    return Unauthenticated(message, reason="TOKEN_INVALID")
