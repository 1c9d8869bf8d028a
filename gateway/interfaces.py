"""What the parts of the gateway need of each other: a connected client, the log to follow, a verifier, a caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from chassis.errors import DomainError
from chassis.identity import Identity
from gateway.protocol import CloseCode


class ClientInterface(Protocol):
    """A connected client, whatever carries it: a WebSocket, or a queue that a blocking caller reads.

    No method blocks or waits. `send_*` answer whether the client had room; without room nothing was taken, the caller
    stops sending to that subscription and starts again where it stopped once `on_room` was called.
    """

    def send_event(self, sub: str, event: EncodedEvent) -> bool:
        """Hand over one event of the log; in order, never twice."""
        ...

    def send_delta(self, sub: str, delta: EncodedDelta) -> bool:
        """Hand over a piece of a message that is being written (delta, snapshot or checkpoint)."""
        ...

    def send(self, frame: bytes) -> bool:
        """Hand over an answer or a notice (a whole frame); taken even when there is little room."""
        ...

    def close(self, code: CloseCode, message: str = "", *, retry_after_ms: int = 0, announce: bool = True) -> None:
        """Say `closing` (if to be announced) and close once what was handed over is delivered. Twice is fine."""
        ...

    def on_room(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when there is room again after a refused `send_*`."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """An event as all its subscribers get it: `body` is the frame after its `sub` field, encoded once."""

    seq: int
    body: bytes


@dataclass(frozen=True, slots=True)
class EncodedDelta:
    """A delta, snapshot or checkpoint: `kind` is the frame's type, `body` the frame after its `sub` field."""

    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Topic:
    """What a subscription follows: `kind` is run, conversation or workflow_run; `id` is the text form."""

    kind: str
    id: str


class WatchListener(Protocol):
    """Receives what a watch yields, in order: `opened` once for each (re)opening, then the rest."""

    def opened(self, resumed: bool, head_seq: int, first_seq: int) -> None:
        """The watch stands; `resumed` is False when the log no longer reaches back to the asked seq."""
        ...

    def event(self, event: EncodedEvent) -> None:
        """One event of the log."""
        ...

    def delta(self, delta: EncodedDelta) -> None:
        """A delta, snapshot or checkpoint."""
        ...

    def ended(self, reason: str, error: DomainError | None) -> None:
        """Nothing follows: `complete`, `revoked`, `not_found`, `lagging`, `log_truncated` or `failed`."""
        ...

    def resume_after(self) -> int | None:
        """The last seq taken, where the watch begins or goes on; None: from now on."""
        ...

    def identity(self) -> Identity:
        """Whose token authorizes this watch now."""
        ...


class WatchSource(Protocol):
    """Follows topics; reconnects by itself when the other side goes away."""

    def open(self, topic: Topic, listener: WatchListener) -> int:
        """Start following after `listener.resume_after()`; returns the watch's number, never used again."""
        ...

    def close(self, watch: int) -> None:
        """Stop following: the listener hears nothing more. Closing twice is fine."""
        ...

    def renew(self, watch: int) -> None:
        """Authorize the watch with the listener's present identity from now on."""
        ...


class Verifier(Protocol):
    """Checks tokens."""

    def __call__(self, token: str) -> Awaitable[Identity]:
        """Who the token stands for; raises DomainError (Unauthenticated) if it stands for nobody."""
        ...


class Caller(Protocol):
    """Makes unary calls in a client's name."""

    async def call(self, identity: Identity, method: str, params: bytes, *, request_id: str, timeout: float) -> bytes:
        """The result as encoded JSON; `timeout` in seconds. Raises DomainError."""
        ...
