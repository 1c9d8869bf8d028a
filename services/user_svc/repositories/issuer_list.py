"""Which issuers any organization trusts: what a token must come from to be worth a look, and whose keys are kept."""

import asyncio
import time
from collections.abc import Collection

from chassis.errors import Unavailable
from user_svc.interfaces.directory import Directory

# What another replica changed is known here after this long.
_REREAD_S = 1.0


class IssuerList:
    """TrustedNames kept at hand, so that tokens of strangers cost no look into the database."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._known: Collection[str] | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def trusted(self) -> Collection[str]:
        """Each `iss`, once. Raises Unavailable when the database has never answered."""
        if time.monotonic() - self._read_at > _REREAD_S:
            async with self._reading:
                if time.monotonic() - self._read_at > _REREAD_S:
                    await self._read()
        return self._known or ()

    def forget(self) -> None:
        """What is known is not the newest any more."""
        self._read_at = float("-inf")

    async def _read(self) -> None:
        try:
            self._known = frozenset(await self._directory.issuers())
        except Unavailable:
            # Those that were trusted a moment ago are.
            if self._known is None:
                raise
        self._read_at = time.monotonic()
