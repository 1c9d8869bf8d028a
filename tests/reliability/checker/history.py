"""What clients saw, written down as it came: the one side that the checker compares. The other is what the database holds."""

from dataclasses import dataclass, field

from hearth.agent.v1 import event_pb2


@dataclass(frozen=True)
class Accepted:
    """StartRun or SendMessage answered OK."""

    run_id: str
    conversation_id: str
    text: str


@dataclass
class Seen:
    """What one client saw of a conversation, or of one run of it, over all its connections: the frames in their order.

    `after_seq` is where it began, `through_end` whether it went on to the end: of the run, or of what was there at rest.
    """

    conversation_id: str
    run_id: str = ""
    after_seq: int = 0
    through_end: bool = False
    frames: list[event_pb2.Frame] = field(default_factory=list[event_pb2.Frame])

    @property
    def events(self) -> list[event_pb2.RunEvent]:
        """The events among the frames."""
        return [frame.event for frame in self.frames if frame.WhichOneof("kind") == "event"]

    @property
    def seq(self) -> int:
        """The newest event's seq: where a client that reconnects goes on."""
        for frame in reversed(self.frames):
            if frame.WhichOneof("kind") == "event":
                return frame.event.seq
        return self.after_seq


@dataclass
class History:
    """All that was answered and seen. `executed` holds what tools were really
    asked to do, as (tool, request id), where the tools of a test can tell."""

    accepted: list[Accepted] = field(default_factory=list[Accepted])
    cancelled: list[str] = field(default_factory=list[str])
    seen: list[Seen] = field(default_factory=list[Seen])
    executed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def follow(self, conversation_id: str, run_id: str = "", after_seq: int = 0) -> Seen:
        """A new client's page in the book."""
        seen = Seen(conversation_id, run_id, after_seq)
        self.seen.append(seen)
        return seen
