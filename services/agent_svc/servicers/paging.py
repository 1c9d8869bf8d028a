"""Pages of lists: where one request continues, and how the next one does."""

from __future__ import annotations

from uuid import UUID

from google.protobuf.message import Message

from chassis.identity import Identity
from chassis.pagination import PageTokens, fingerprint


class Page:
    """A page token's meaning for one list request. Raises InvalidArgument PAGE_TOKEN_INVALID for another query's."""

    def __init__(self, tokens: PageTokens, request: Message, page_token: str, caller: Identity) -> None:
        self._tokens = tokens
        self._fingerprint = fingerprint(request, caller.organization_id)
        self._position = tokens.verify(page_token, self._fingerprint)

    @property
    def id(self) -> UUID | None:
        """The id that the page before ended with."""
        return None if self._position is None else UUID(str(self._position[0]))

    @property
    def seq(self) -> int | None:
        """The seq that the page before ended with."""
        return None if self._position is None else int(self._position[0])

    def next(self, last: UUID | int | None, more: bool) -> str:
        """The token of the page after the one that ends with `last`; empty at the end."""
        if not more or last is None:
            return ""
        return self._tokens.sign(self._fingerprint, [str(last)])
