"""Who follows what: the subscriptions of every connected client, whatever kind of client it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from chassis.errors import AlreadyExists, DomainError, ResourceExhausted, invalid_field, not_found, not_implemented
from chassis.identity import Identity
from gateway.interfaces import ClientInterface, Topic, WatchSource
from gateway.protocol import MAX_SUBSCRIPTIONS
from gateway.subscription import Subscription

TOPIC_KINDS: Final = ("run", "conversation", "workflow_run")
_ID: Final = re.compile(r"[a-z]+_[0-9a-z]{1,50}")


def parse_topic(text: str) -> Topic:
    """`run:run_…`, `conversation:conv_…` or `workflow_run:wfrun_…`; raises InvalidArgument, NotFound, Unimplemented."""
    kind, colon, identifier = text.partition(":")
    if not colon or kind not in TOPIC_KINDS or not identifier:
        raise invalid_field("topic", f"one of {', '.join(TOPIC_KINDS)}, a colon and an id")
    if kind == "workflow_run":
        raise not_implemented("following workflow runs")
    if not _ID.fullmatch(identifier):
        raise not_found(kind, identifier)
    return Topic(kind, identifier)


class Hub:
    """Connects clients to the logs that they follow. Used from the event loop's thread only."""

    def __init__(self, source: WatchSource) -> None:
        self._source = source
        self._clients: dict[ClientInterface, dict[str, Subscription]] = {}

    @property
    def subscriptions(self) -> int:
        """How many subscriptions exist, over all clients."""
        return sum(len(named) for named in self._clients.values())

    def subscribe(
        self,
        client: ClientInterface,
        *,
        name: str,
        topic: Topic,
        after_seq: int | None,
        identity: Callable[[], Identity],
        on_opened: Callable[[bool, int, int], None],
        on_failed: Callable[[DomainError], None],
    ) -> None:
        """Follow `topic` for `client` under `name`.

        `on_opened(resumed, head_seq, first_seq)` precedes everything sent for it, or `on_failed` says why not; raises
        DomainError when the name is in use or the client has too many.
        """
        named = self._clients.setdefault(client, {})
        if name in named:
            raise AlreadyExists("a subscription of this name exists", reason="NAME_TAKEN", metadata={"sub": name})
        if len(named) >= MAX_SUBSCRIPTIONS:
            raise ResourceExhausted(f"at most {MAX_SUBSCRIPTIONS} subscriptions a socket", reason="QUOTA_EXCEEDED")
        waiting = True

        def opened(resumed: bool, head_seq: int, first_seq: int) -> None:
            nonlocal waiting
            waiting = False
            if not resumed:
                self._forget(client, name)
            on_opened(resumed, head_seq, first_seq)

        def over(error: DomainError | None) -> None:
            self._forget(client, name)
            if waiting and error is not None:
                on_failed(error)

        subscription = Subscription(
            self._source,
            client,
            name=name,
            topic=topic,
            after_seq=after_seq,
            identity=identity,
            on_opened=opened,
            on_over=over,
        )
        named[name] = subscription
        subscription.start()

    def unsubscribe(self, client: ClientInterface, name: str) -> bool:
        """Stop following; False if there is no subscription of this name."""
        subscription = self._clients.get(client, {}).get(name)
        if subscription is None:
            return False
        self._forget(client, name)
        subscription.stop()
        return True

    def ack(self, client: ClientInterface, name: str, seq: int) -> None:
        """The client has handled the events up to `seq`; a name that is gone is ignored (the ack may be late)."""
        subscription = self._clients.get(client, {}).get(name)
        if subscription is not None:
            subscription.ack(seq)

    def renew(self, client: ClientInterface) -> None:
        """The client's token was replaced: authorize all that it follows anew."""
        for subscription in self._clients.get(client, {}).values():
            subscription.renew()

    def release(self, client: ClientInterface) -> None:
        """Let go of everything that the client follows."""
        for subscription in self._clients.pop(client, {}).values():
            subscription.stop()

    def _forget(self, client: ClientInterface, name: str) -> None:
        named = self._clients.get(client)
        if named is not None:
            named.pop(name, None)
            if not named:
                del self._clients[client]
