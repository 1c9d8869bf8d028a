"""Tokens of issuers that organizations trust: user_svc says whom one stands for; here that is asked as seldom as can be."""

import asyncio
import base64
import binascii
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from chassis.callcontext import set_call
from chassis.errors import DomainError, ResourceExhausted, Unauthenticated, Unimplemented
from chassis.identity import Identity, set_current

MOST_BYTES = 16 * 1024
# How long a token that was refused is refused without asking.
_REFUSED_S = 5.0
_MOST_REFUSED = 10_000
_MOST_AT_ONCE = 256
# How often at most the list of trusted issuers is read, when a token comes from one that is not in it.
_LIST_S = 1.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """Whom a token stands for, to be relied on until `good_until` (Unix time in seconds)."""

    identity: Identity
    good_until: float


class ExternalTokenSource(Protocol):
    """Who knows external issuers."""

    async def issuers(self) -> Collection[str]:
        """Whose tokens may be good. Raises DomainError when it cannot be told."""
        ...

    async def resolve(self, token: str) -> Resolved:
        """Raises Unauthenticated for a token that is not good, another DomainError when it cannot be told."""
        ...


def is_external(identity: Identity) -> bool:
    """Whether somebody came with a token of an issuer that an organization trusts."""
    return identity.key_id.startswith("issuer_")


def foreign_issuer(token: str, own: str) -> str | None:
    """The `iss` of a token, believed no further than that; None when it is one's own, or the token is malformed."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MOST_BYTES:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) and issuer != own else None


class ExternalTokens:
    """Asks a source about tokens: once for calls that come at the same time, not at all for tokens of issuers that nobody
    trusts and for those that were refused a moment ago.
    """

    def __init__(self, source: ExternalTokenSource, *, list_s: float = _LIST_S) -> None:
        self._source = source
        self._list_s = list_s
        self._issuers: Collection[str] | None = None
        self._listed_at = float("-inf")
        self._listing = asyncio.Lock()
        self._refused: OrderedDict[bytes, tuple[Unauthenticated, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Resolved]] = {}

    async def resolve(self, token: str, issuer: str) -> Resolved:
        """Raises Unauthenticated TOKEN_INVALID or TOKEN_EXPIRED, ResourceExhausted when too many are asked about, or what keeps the
        source from telling.
        """
        digest = hashlib.sha256(token.encode()).digest()
        refusal = self._refused.get(digest)
        if refusal is not None and refusal[1] > time.monotonic():
            raise Unauthenticated(refusal[0].message, reason=refusal[0].reason)
        if not await self._is_trusted(issuer):
            raise Unauthenticated("the token's issuer is not trusted", reason="TOKEN_INVALID")
        asking = self._asking.get(digest)
        if asking is None:
            if len(self._asking) >= _MOST_AT_ONCE:
                raise ResourceExhausted("too many new tokens", reason="RATE_LIMITED", retry_after_s=1.0)
            asking = self._asking[digest] = asyncio.create_task(self._ask(token, digest))
            asking.add_done_callback(lambda done: self._asked(digest, done))
        # Who leaves takes it from nobody else who waits.
        return await asyncio.shield(asking)

    async def _is_trusted(self, issuer: str) -> bool:
        if self._issuers is None or issuer not in self._issuers:
            asked_at = time.monotonic()
            async with self._listing:
                if self._listed_at < asked_at and time.monotonic() - self._listed_at >= self._list_s:
                    await self._list()
        return self._issuers is not None and issuer in self._issuers

    async def _list(self) -> None:
        try:
            self._issuers = frozenset(await self._source.issuers())
        except Unimplemented:
            # A user_svc from before there was such a thing.
            self._issuers = frozenset()
        except DomainError:
            if self._issuers is None:
                raise
        self._listed_at = time.monotonic()

    async def _ask(self, token: str, digest: bytes) -> Resolved:
        # Of whatever call began this, others wait for it too.
        set_call(None)
        set_current(None)
        try:
            return await self._source.resolve(token)
        except Unauthenticated as refusal:
            self._refused[digest] = refusal, time.monotonic() + _REFUSED_S
            if len(self._refused) > _MOST_REFUSED:
                self._refused.popitem(last=False)
            raise

    def _asked(self, digest: bytes, done: "asyncio.Task[Resolved]") -> None:
        self._asking.pop(digest, None)
        if not done.cancelled():
            # Looked at, in case everybody has left.
            done.exception()
