"""The token that calls carry: issued for the API key, kept, and replaced in time."""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Awaitable, Callable

from hearth.user.v1.token_service_pb2 import IssueTokenResponse

_EARLY_S = 60.0


class TokenSource:
    """One token for all calls of a client. Callers that need a new one at the same time share one IssueToken."""

    def __init__(
        self, issue: Callable[[], Awaitable[IssueTokenResponse]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._issue = issue
        self._clock = clock
        self._token = ""
        self._replace_at = 0.0
        self._issuing: asyncio.Task[str] | None = None

    async def get(self, *, refused: str = "") -> str:
        """A token with a minute to live or more. `refused` is one that the server did not take: it is not given again."""
        if self._token and self._token != refused and self._clock() < self._replace_at:
            return self._token
        if self._issuing is None:
            self._issuing = asyncio.create_task(self._replace())
            self._issuing.add_done_callback(self._issued)
        # A caller that is cancelled must not take the token from the others.
        return await asyncio.shield(self._issuing)

    async def _replace(self) -> str:
        asked_at = self._clock()
        response = await self._issue()
        life_s = _life_s(response)
        # Very short lives are used for half of their time.
        self._replace_at = asked_at + max(life_s - _EARLY_S, life_s / 2)
        self._token = response.token
        return self._token

    def _issued(self, task: asyncio.Task[str]) -> None:
        self._issuing = None
        if not task.cancelled():
            # Marks it as retrieved: all who waited may have been cancelled.
            task.exception()


def _life_s(response: IssueTokenResponse) -> float:
    """Seconds from issue to expiry, by the server's clock alone where possible: this machine's may be wrong."""
    try:
        payload = response.token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) - float(claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError, binascii.Error):
        return response.expire_time.ToNanoseconds() / 1e9 - time.time()
