"""Pages of lists that are ordered by id, oldest first."""

from uuid import UUID

from google.protobuf.message import Message

from chassis.identity import Identity
from chassis.pagination import PageTokens, fingerprint


class Page:
    """Where one list request continues, and how the next one does."""

    def __init__(self, tokens: PageTokens, request: Message, page_token: str, caller: Identity) -> None:
        self._tokens = tokens
        self._fingerprint = fingerprint(request, caller.organization_id, caller.subject)
        position = tokens.verify(page_token, self._fingerprint)
        self.after = None if position is None else UUID(str(position[0]))

    def next(self, last_id: UUID | None, more: bool) -> str:
        """The token of the page after the one that ends with this id; empty at the end."""
        return self._tokens.sign(self._fingerprint, [str(last_id)]) if more and last_id else ""
