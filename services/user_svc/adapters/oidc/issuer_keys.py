"""The keys of all trusted issuers, read before they are needed and kept while an issuer does not answer."""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from chassis.callcontext import set_call
from chassis.errors import DomainError, Unauthenticated, Unavailable
from chassis.identity import set_current
from chassis.tasks import end_task
from user_svc.adapters.oidc.fetch import FetchError
from user_svc.adapters.oidc.public_keys import IssuerKey, nobodys_key, usable_keys

_log = logging.getLogger(__name__)

_DISCOVERY = "/.well-known/openid-configuration"
# An issuer is not asked more often than this, however many unknown keys tokens name.
_PAUSE_S = 5.0
# Less than those wait who want a token judged.
_ASK_S = 7.0
_TICK_S = 1.0
_AT_ONCE = 8
# What the door can be asked to look through.
_MOST_PUBLISHED = 2_000


class Fetcher(Protocol):
    """Reads JSON objects."""

    def refuse(self, address: str) -> str:
        """Why an address can never be read; empty if it can."""
        ...

    async def read(self, address: str) -> dict[str, Any]:
        """The object at an address. Raises FetchError."""
        ...


class TrustedIssuers(Protocol):
    """Whose keys are wanted."""

    async def trusted(self) -> Collection[str]:
        """Each `iss`, once. Raises Unavailable."""
        ...


@dataclass(slots=True)
class _Known:
    keys: Sequence[IssuerKey] = ()
    problem: str = ""
    read_at: float = float("-inf")
    tried_at: float = float("-inf")
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class IssuerKeys:
    """Reads each trusted issuer's keys every `refresh_s` seconds in the background (the door knows no others, so a key that an issuer
    begins to use without notice works there after that), and at once when a token names one that is not known.
    """

    def __init__(
        self, issuers: TrustedIssuers, fetcher: Fetcher, *, refresh_s: float = 60.0, pause_s: float = _PAUSE_S
    ) -> None:
        self._issuers = issuers
        self._fetcher = fetcher
        self._refresh_s = refresh_s
        self._pause_s = min(pause_s, refresh_s)
        self._known: dict[str, _Known] = {}
        self._nobodys = nobodys_key()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._reading: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to read."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Reads no more."""
        await end_task(self._task)
        await asyncio.gather(*map(end_task, tuple(self._reading)))

    def refuse_address(self, issuer: str) -> str:
        """Why an issuer's address can never be asked; empty if it can."""
        return self._fetcher.refuse(issuer)

    def problem(self, issuer: str) -> str:
        """Why its keys cannot be read just now; empty if they can, or were not needed yet."""
        known = self._known.get(issuer)
        return "" if known is None else known.problem

    def published(self) -> Sequence[Mapping[str, str]]:
        """The public keys of all trusted issuers, and one that nobody has."""
        found = [key.members for known in self._known.values() for key in known.keys]
        return [self._nobodys, *found[:_MOST_PUBLISHED]]

    async def find(self, issuer: str, key_id: str | None, algorithm: str) -> IssuerKey:
        """The issuer's key of this name; without a name, its only one for the algorithm.

        Raises Unauthenticated TOKEN_INVALID when it has none, Unavailable when it has not been asked successfully yet.
        """
        known = self._known.setdefault(issuer, _Known())
        found = _matching(known.keys, key_id, algorithm)
        if found is None:
            await self._read(issuer, known)
            found = _matching(known.keys, key_id, algorithm)
        if found is not None:
            return found
        if not known.keys:
            raise Unavailable(
                "the token's issuer does not tell its keys",
                reason="DEPENDENCY_UNAVAILABLE",
                retry_after_s=self._pause_s,
            )
        raise Unauthenticated("the token is signed with an unknown key", reason="TOKEN_INVALID")

    async def _read(self, issuer: str, known: _Known) -> None:
        asked_at = time.monotonic()
        async with known.reading:
            # Who waited for another's reading takes its outcome.
            if known.tried_at >= asked_at or time.monotonic() - known.tried_at < self._pause_s:
                return
            known.tried_at = time.monotonic()
            try:
                async with asyncio.timeout(_ASK_S):
                    known.keys = await self._ask(issuer)
            except (FetchError, TimeoutError) as error:
                problem = str(error) or "it takes too long to answer"
                if not known.problem:
                    _log.warning("the keys of an issuer cannot be read", extra={"issuer": issuer, "detail": problem})
                known.problem = problem
            else:
                known.problem, known.read_at = "", time.monotonic()

    async def _ask(self, issuer: str) -> Sequence[IssuerKey]:
        about = await self._fetcher.read(issuer.rstrip("/") + _DISCOVERY)
        if about.get("issuer") != issuer:
            raise FetchError("its configuration names another issuer")
        address = about.get("jwks_uri")
        if not isinstance(address, str):
            raise FetchError("its configuration names no jwks_uri")
        found = usable_keys(await self._fetcher.read(address))
        if not found:
            raise FetchError("it publishes no key that can be used")
        return found

    async def _run(self) -> None:
        # Whatever call began this, the work is nobody's.
        set_call(None)
        set_current(None)
        while True:
            try:
                await self._look()
            except DomainError as error:
                _log.warning("which issuers are trusted cannot be read", extra={"reason": error.reason})
            except Exception:
                _log.exception("the keys of issuers were not read")
            await asyncio.sleep(_TICK_S)

    async def _look(self) -> None:
        """Begins what is due and forgets who is no longer trusted; one that hangs keeps no other waiting."""
        trusted = await self._issuers.trusted()
        for gone in self._known.keys() - set(trusted):
            del self._known[gone]
        now = time.monotonic()
        for issuer in trusted:
            known = self._known.setdefault(issuer, _Known())
            if now - known.tried_at >= self._refresh_s and not known.reading.locked():
                task = asyncio.create_task(self._in_turn(issuer, known))
                self._reading.add(task)
                task.add_done_callback(self._reading.discard)

    async def _in_turn(self, issuer: str, known: _Known) -> None:
        async with self._slots:
            await self._read(issuer, known)


def _matching(keys: Sequence[IssuerKey], key_id: str | None, algorithm: str) -> IssuerKey | None:
    able = [key for key in keys if algorithm in key.algorithms and (key_id is None or key.key_id == key_id)]
    return able[0] if len(able) == 1 or (able and key_id is not None) else None
