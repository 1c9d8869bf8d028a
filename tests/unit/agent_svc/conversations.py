"""Messages for tests, made from one word each."""

from datetime import UTC, datetime
from uuid import UUID

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.model import ToolCall

NOW = datetime(2026, 3, 4, 15, 16, 17, tzinfo=UTC)
RUN = UUID(int=7)


def user(text: str, seq: int, *, run_seq: int = 1, run_id: UUID = RUN) -> Message:
    return Message(UUID(int=1000 + seq), run_id, run_seq, MessageRole.USER, text, NOW, seq=seq)


def assistant(text: str, seq: int, *calls: str, run_seq: int = 1, run_id: UUID = RUN) -> Message:
    wanted = tuple(ToolCall(call, "look_up", '{"word": "x"}') for call in calls)
    return Message(UUID(int=1000 + seq), run_id, run_seq, MessageRole.ASSISTANT, text, NOW, seq=seq, tool_calls=wanted)


def result(call: str, seq: int, text: str = "found", *, run_seq: int = 1, run_id: UUID = RUN) -> Message:
    return Message(
        UUID(int=1000 + seq),
        run_id,
        run_seq,
        MessageRole.TOOL,
        text,
        NOW,
        seq=seq,
        tool_call_id=call,
        tool_name="look_up",
        tool_outcome=ToolCallOutcome.SUCCEEDED,
    )
