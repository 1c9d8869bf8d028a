"""The only way out for a tool."""

import socket
from collections.abc import Sequence
from typing import Protocol


class EgressSession(Protocol):
    """The way out of one call."""

    def close(self) -> None:
        """Cut all its connections and refuse further ones."""
        ...


class Egress(Protocol):
    """Makes the connections that tools ask for, after checking where they lead."""

    def serve(self, channel: socket.socket, allowed_hosts: Sequence[str]) -> EgressSession:
        """Answer the requests that come over a channel, which belongs to the session from now on."""
        ...
