"""Scopes: what a credential is limited to, beside its role. Coarse, and told by the descriptors alone.

A method of `hearth.<domain>.v1` needs `<domain>.read` when everybody may use it and it changes nothing, else `<domain>.write`, which
includes reading. Internal methods and those open to everybody need none.
"""

from collections.abc import Collection
from typing import Final

from chassis.identity import Access

DOMAINS: Final = ("agent", "memory", "tool", "user")
ALL_SCOPES: Final = frozenset(f"{domain}.{kind}" for domain in DOMAINS for kind in ("read", "write"))

# Viewers may do these too, to what is their own.
_CHANGES = ("Create", "Update", "Delete", "Revoke", "Set")


def scope_of(service: str, method: str, access: Access) -> str:
    """The scope that a method of a fully-qualified service needs; empty if none."""
    parts = service.split(".")
    if access in (Access.ANONYMOUS, Access.SERVICE) or "internal" in parts or parts[1] not in DOMAINS:
        return ""
    reads = access is Access.VIEWER and not method.startswith(_CHANGES)
    return f"{parts[1]}.{'read' if reads else 'write'}"


def covers(granted: Collection[str] | None, needed: str) -> bool:
    """Whether scopes allow what needs this one. None: no limit; `needed` empty: nothing is needed."""
    if granted is None or not needed or needed in granted:
        return True
    domain, _, kind = needed.partition(".")
    return kind == "read" and f"{domain}.write" in granted
