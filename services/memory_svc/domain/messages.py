"""Messages as recall memory knows them: a searchable copy; whoever wrote them owns them."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from memory_svc.domain.search import Place

ROLES = ("user", "assistant", "tool", "summary")


@dataclass(frozen=True, slots=True)
class RecallMessage:
    """One message. `seq` is its place in the conversation; `speaker` is empty when not known."""

    id: uuid.UUID
    organization_id: uuid.UUID
    agent_id: uuid.UUID
    conversation_id: uuid.UUID
    seq: int
    role: str
    speaker: str
    text: str
    create_time: datetime
    # Messages do not change.
    version: int = 1

    @property
    def ranked_text(self) -> str:
        """What is searched: a question names who said it, so a known speaker is part of the text."""
        return f"{self.speaker}: {self.text}" if self.speaker else self.text

    @property
    def place(self) -> Place:
        """Where it was said, and by whom."""
        return Place(self.conversation_id, self.seq, self.speaker)


@dataclass(frozen=True, slots=True)
class Span:
    """Messages of one conversation with low ≤ seq ≤ high."""

    conversation_id: uuid.UUID
    low: int
    high: int
