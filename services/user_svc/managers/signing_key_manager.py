"""Signing keys: made at the first start, known to every replica, published for those who verify."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chassis import audit
from chassis.errors import Unavailable
from chassis.identity import Identity, Role
from user_svc.domain.token import Rotation, SigningKey, retirement
from user_svc.interfaces.signing import KeyForge
from user_svc.interfaces.unit_of_work import UnitOfWork

# A key made by another replica is seen here after this long at most.
_REREAD_S = 5.0


class SigningKeyManager:
    """Keeps the keys at hand, so that issuing a token does not read them each time.

    A new key is published `publication_s` seconds before it signs: longer than any replica and any cache in front of them
    (Envoy's: 10 s) goes on with the keys it knows.
    """

    def __init__(self, unit_of_work: UnitOfWork, forge: KeyForge, publication_s: float = 20.0) -> None:
        self._work = unit_of_work
        self._forge = forge
        self._publication = timedelta(seconds=publication_s)
        self._known: Sequence[SigningKey] = ()
        self._read_at = float("-inf")

    async def ensure(self) -> None:
        """Makes the first key unless there is one; any number of replicas may do this at once.

        Raises ValueError when a key is there that this process's master key does not open.
        """
        async with self._work.of_nobody() as work:
            await work.alone("signing keys")
            found = await work.signing_keys.usable(datetime.now(UTC))
            for key in found:
                self._forge.check(key)
            if not found:
                await work.signing_keys.add(self._forge.make())

    async def rotate(self, caller: Identity) -> Rotation:
        """A new key takes over. While one waits to do so, it is that one, and none is made. Raises PermissionDenied."""
        caller.require(Role.PLATFORM_ADMIN)
        async with self._work.of_nobody() as work:
            await work.alone("signing keys")
            now = datetime.now(UTC)
            found = await work.signing_keys.usable(now)
            newest = found[0] if found else None
            if newest is None or newest.activate_time <= now:
                newest = self._forge.make(now + self._publication)
                retired = [key.key_id for key in found if key.retire_time is None]
                await work.signing_keys.retire(retired, retirement(newest.activate_time))
                await work.signing_keys.add(newest)
                await work.signing_keys.drop_retired(now)
            audit.concerning(newest.key_id)
        self._read_at = float("-inf")
        return Rotation(newest.key_id, newest.activate_time, retirement(newest.activate_time))

    async def signing(self) -> SigningKey:
        """The key that signs now: the newest of those whose time has come. Raises Unavailable when there is none."""
        now = datetime.now(UTC)
        for key in await self.usable():
            if key.activate_time <= now:
                return key
        raise Unavailable("there is no signing key yet", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0)

    async def usable(self) -> Sequence[SigningKey]:
        """All whose tokens may be good or will be, newest first."""
        if time.monotonic() - self._read_at > _REREAD_S:
            try:
                async with self._work.of_nobody() as work:
                    self._known = await work.signing_keys.usable(datetime.now(UTC))
                self._read_at = time.monotonic()
            except Unavailable:
                # What was good a moment ago is: others must be able to verify while the database restarts.
                if not self._known:
                    raise
        return self._known
