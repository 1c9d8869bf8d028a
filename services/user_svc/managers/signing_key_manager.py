"""Signing keys: made at the first start, known to every replica, published for those who verify."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from chassis.errors import Unavailable
from user_svc.domain.token import SigningKey
from user_svc.interfaces.signing import KeyForge
from user_svc.interfaces.unit_of_work import UnitOfWork

# A key made by another replica is seen here after this long at most.
_REREAD_S = 30.0


class SigningKeyManager:
    """Keeps the keys at hand, so that issuing a token does not read them each time."""

    def __init__(self, unit_of_work: UnitOfWork, forge: KeyForge) -> None:
        self._work = unit_of_work
        self._forge = forge
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

    async def signing(self) -> SigningKey:
        """The key that signs now: the newest. Raises Unavailable when there is none."""
        keys = await self.usable()
        if not keys:
            raise Unavailable("there is no signing key yet", reason="DEPENDENCY_UNAVAILABLE", retry_after_s=1.0)
        return keys[0]

    async def usable(self) -> Sequence[SigningKey]:
        """All whose tokens may be good, newest first."""
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
