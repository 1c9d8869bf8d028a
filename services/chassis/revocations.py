"""Which tokens are void before they expire: those of revoked keys, disabled users, deleted organizations.

user_svc knows. Every other process reads what is new from it every two seconds and keeps it until no such token can be alive
any more. It is read, not sent: so it needs nothing but user_svc, and nothing is missed over a restart of either side.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from chassis import ids
from chassis.callcontext import set_call
from chassis.errors import DomainError, Unavailable
from chassis.identity import Identity, Role, credential_revoked, set_current, token_expired
from chassis.tasks import end_task

_log = logging.getLogger(__name__)

POLL_S = 2.0
# After a failure: so that one of them does not cost the five seconds in which a revocation has to work.
_RETRY_S = 0.5
# How long the first calls of a process wait for the first answer.
_LOAD_S = 3.0
# Every so many readings all is read again: a user_svc that was set back by a backup counts from a lower position.
_WHOLE_EVERY = 30
# Tokens live this much longer than they say, for clocks that differ.
CLOCK_LEEWAY_S = 5.0

# What stays in force for ever, or until user_svc says otherwise.
ALL = math.inf


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens of a subject (`key_…`, `user_…`, `org_…`) issued before `void_before` are void. Unix times in seconds."""

    subject: str
    void_before: float
    expires_at: float


class RevocationSource(Protocol):
    """Where revocations come from."""

    async def after(self, position: int) -> tuple[Sequence[Revocation], int]:
        """What is new after a position, and where to go on. Raises DomainError when it cannot be had."""
        ...


class Revocations(Protocol):
    """What is known to be revoked."""

    def is_void(self, identity: Identity) -> bool:
        """Whether the token behind an identity is void. Costs a few look-ups: it is asked at every call."""
        ...

    def when_void(self, identity: Identity, act: Callable[[], None]) -> Callable[[], None]:
        """Calls `act` once the token is void, at once if it is; the function returned takes that back."""
        ...


class NothingRevoked:
    """Revocations of a process that knows of none."""

    def is_void(self, identity: Identity) -> bool:
        return False

    def when_void(self, identity: Identity, act: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class RevocationList:
    """The Revocations of a process, kept up from `start` to `stop`.

    While the source does not answer, what is known stays in force and what is new waits; tokens are not renewed either then.
    """

    def __init__(self, source: RevocationSource, *, interval_s: float = POLL_S) -> None:
        self._source = source
        self._interval_s = interval_s
        # By key and user as texts, by organization as UUID, as identities have them.
        self._void: dict[str | UUID, float] = {}
        self._expiry: dict[str | UUID, float] = {}
        self._waiting: dict[object, tuple[Identity, Callable[[], None]]] = {}
        self._position = 0
        self._loaded = False
        self._reading = asyncio.Lock()
        self._begun = self._ended = 0
        self._failure: DomainError | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to read; does not wait for an answer."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Reads no more."""
        await end_task(self._task)

    def is_void(self, identity: Identity) -> bool:
        void = self._void
        if not void:
            return False
        issued_at = identity.issued_at
        return (
            issued_at < void.get(identity.key_id, 0.0)
            or issued_at < void.get(identity.subject, 0.0)
            or issued_at < void.get(identity.organization_id, 0.0)
        )

    def when_void(self, identity: Identity, act: Callable[[], None]) -> Callable[[], None]:
        if self.is_void(identity):
            act()
            return lambda: None
        place = object()
        self._waiting[place] = (identity, act)

        def forget() -> None:
            self._waiting.pop(place, None)

        return forget

    async def load(self) -> None:
        """Returns once the list was read for the first time: before, no token can be called good. Raises Unavailable."""
        until = time.monotonic() + _LOAD_S
        while not self._loaded:
            try:
                await self.refresh()
            except DomainError as error:
                if time.monotonic() >= until:
                    raise Unavailable(
                        "tokens cannot be checked now", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0
                    ) from error
                await asyncio.sleep(0.1)

    async def refresh(self) -> None:
        """Reads what is new, beginning now. Those who wait for the same reading share it. Raises DomainError."""
        wanted = self._begun + 1
        async with self._reading:
            if self._ended < wanted:
                self._begun += 1
                self._failure = None
                try:
                    await self._read()
                except DomainError as error:
                    self._failure = error
                self._ended = self._begun
            if self._failure is not None:
                raise self._failure

    async def _read(self) -> None:
        while True:
            found, position = await self._source.after(self._position)
            self._take(found)
            if not found or position == self._position:
                break
            self._position = position
        self._loaded = True

    def _take(self, found: Sequence[Revocation]) -> None:
        now = time.time()
        for revocation in found:
            key: str | UUID = revocation.subject
            if revocation.subject.startswith("org_"):
                key = ids.decode("org", revocation.subject)
            self._void[key] = revocation.void_before
            self._expiry[key] = revocation.expires_at
        for key in [key for key, expires_at in self._expiry.items() if expires_at <= now]:
            del self._void[key], self._expiry[key]
        if found:
            for place, (identity, act) in list(self._waiting.items()):
                if self.is_void(identity) and self._waiting.pop(place, None) is not None:
                    act()

    async def _run(self) -> None:
        # Whatever call began this, the work is nobody's.
        set_call(None)
        set_current(None)
        readings = 0
        failing = False
        while True:
            readings += 1
            if readings % _WHOLE_EVERY == 0:
                self._position = 0
            try:
                await self.refresh()
            except Exception as error:
                if not failing:
                    unforeseen = None if isinstance(error, DomainError) else error
                    _log.warning("revocations cannot be read; the known ones stay in force", exc_info=unforeseen)
                failing = True
                await asyncio.sleep(_RETRY_S)
                continue
            if failing:
                _log.info("revocations are read again")
                failing = False
            await asyncio.sleep(self._interval_s)


@asynccontextmanager
async def holding(identity: Identity | None, revocations: Revocations) -> AsyncGenerator[None]:
    """A block that lasts no longer than its credential: for streams.

    Ends it with Unauthenticated TOKEN_INVALID when the credential is revoked, TOKEN_EXPIRED when the token expires. A service's
    stream may outlive its token, since a service can get another at any time and what it does is bounded elsewhere.
    """
    if identity is None:
        yield
        return
    clock = asyncio.get_running_loop().time
    limit = asyncio.timeout(None)

    def end() -> None:
        if not limit.expired():
            limit.reschedule(clock())

    forget = None
    try:
        async with limit:
            if identity.role is not Role.SERVICE:
                limit.reschedule(clock() + identity.expires_at + CLOCK_LEEWAY_S - time.time())
            forget = revocations.when_void(identity, end)
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise (credential_revoked() if revocations.is_void(identity) else token_expired()) from None
    finally:
        if forget is not None:
            forget()
