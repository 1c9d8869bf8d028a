"""The message that is being written: what has come so far, and which piece goes to the watchers when."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from agent_svc.domain.frame import DeltaFrame, SnapshotFrame

# Seconds between two groups of deltas of one message, the first of which goes at once.
GROUPING_S = 0.05


@dataclass(slots=True)
class PartialMessage:
    """Grows with the model's stream; `take` returns what no watcher has seen yet. Offsets count code points."""

    run_id: UUID
    message_id: UUID
    attempt: int
    _text: list[str] = field(default_factory=list[str])
    _reasoning: list[str] = field(default_factory=list[str])
    _sent_text: int = 0
    _sent_reasoning: int = 0
    _unsent_text: list[str] = field(default_factory=list[str])
    _unsent_reasoning: list[str] = field(default_factory=list[str])

    def add(self, text: str, *, reasoning: bool) -> None:
        """More of the message."""
        if reasoning:
            self._reasoning.append(text)
            self._unsent_reasoning.append(text)
        else:
            self._text.append(text)
            self._unsent_text.append(text)

    def take(self) -> list[DeltaFrame]:
        """What has come since the last take: at most one delta of each kind, reasoning first."""
        frames: list[DeltaFrame] = []
        if self._unsent_reasoning:
            piece = "".join(self._unsent_reasoning)
            self._unsent_reasoning.clear()
            frames.append(DeltaFrame(self.run_id, self.message_id, self.attempt, True, self._sent_reasoning, piece))
            self._sent_reasoning += len(piece)
        if self._unsent_text:
            piece = "".join(self._unsent_text)
            self._unsent_text.clear()
            frames.append(DeltaFrame(self.run_id, self.message_id, self.attempt, False, self._sent_text, piece))
            self._sent_text += len(piece)
        return frames

    def snapshot(self) -> SnapshotFrame:
        """All that has been taken so far, so that the next delta joins it without a seam."""
        text = "".join(self._text)[: self._sent_text]
        reasoning = "".join(self._reasoning)[: self._sent_reasoning]
        return SnapshotFrame(self.run_id, self.message_id, self.attempt, text, reasoning)
