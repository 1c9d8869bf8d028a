"""Tickets: a socket's credential for clients that can neither set a header nor speak first. Short, single use, bound to an origin."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chassis.errors import ResourceExhausted, Unauthenticated
from chassis.identity import Identity

TICKET_SECONDS: Final = 30.0
_MAX_TICKETS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Ticket:
    identity: Identity
    origin: str
    expires_at: float


class Tickets:
    """Held in this process: a ticket is good only where it was bought. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()

    def issue(self, identity: Identity, origin: str) -> str:
        """A ticket for one upgrade from `origin` within 30 s; raises ResourceExhausted when too many are out."""
        now = self._clock()
        self._forget_expired(now)
        if len(self._tickets) >= _MAX_TICKETS:
            raise ResourceExhausted("too many tickets", reason="RATE_LIMITED", retry_after_s=TICKET_SECONDS)
        ticket = secrets.token_urlsafe(32)
        self._tickets[ticket] = _Ticket(identity, origin, now + TICKET_SECONDS)
        return ticket

    def redeem(self, ticket: str, origin: str) -> Identity:
        """Whose ticket this is; it is used up even when this raises Unauthenticated."""
        known = self._tickets.pop(ticket, None)
        if known is None or known.expires_at <= self._clock() or known.origin != origin:
            raise Unauthenticated("the ticket is used, expired, or not for this origin", reason="TOKEN_INVALID")
        return known.identity

    def _forget_expired(self, now: float) -> None:
        while self._tickets:
            oldest = next(iter(self._tickets.values()))
            if oldest.expires_at > now:
                return
            self._tickets.popitem(last=False)
