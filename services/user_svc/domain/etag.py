"""Etags: a text that changes with every change of a resource."""

from typing import Protocol


class Versioned(Protocol):
    """Anything that counts its changes."""

    @property
    def version(self) -> int: ...


def etag_of(resource: Versioned) -> str:
    """The resource's etag. Clients compare it and read nothing into it."""
    return f"v{resource.version:x}"
