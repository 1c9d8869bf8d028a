"""Telling this process what was just revoked."""

from typing import Protocol


class RevocationNotice(Protocol):
    """The processes that verify tokens look for revocations every few seconds; the one that made one knows it at once."""

    async def recorded(self) -> None:
        """Call it after the commit. Never fails: what is missed now is found by the next look."""
        ...
