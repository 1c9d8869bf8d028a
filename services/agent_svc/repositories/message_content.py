"""What of a message is kept as JSON, and how rows become messages and runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from agent_svc.domain.conversation import Message, MessageRole, Summarized, ToolCallOutcome
from agent_svc.domain.image import Image
from agent_svc.domain.model import ToolCall
from agent_svc.domain.run import Run, RunError, RunState, RunStopReason, TokenCount


class _Call(msgspec.Struct, omit_defaults=True):
    id: str
    name: str
    arguments: str


class _Image(msgspec.Struct, omit_defaults=True):
    media_type: str = ""
    data: bytes = b""
    url: str = ""


class _Summarized(msgspec.Struct):
    from_seq: int
    through_seq: int
    kept_run_seq: int
    kept_seq: int


class _Content(msgspec.Struct, omit_defaults=True):
    text: str = ""
    reasoning: str = ""
    reasoning_signature: str = ""
    tool_calls: list[_Call] = []
    tool_call_id: str = ""
    tool_name: str = ""
    tool_outcome: int = 0
    images: list[_Image] = []
    output_schema: str = ""
    summarized: _Summarized | None = None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Content)


def encode_content(message: Message) -> str:
    """The JSON of a message."""
    content = _Content(
        text=message.text,
        reasoning=message.reasoning,
        reasoning_signature=message.reasoning_signature,
        tool_calls=[_Call(call.id, call.name, call.arguments_json) for call in message.tool_calls],
        tool_call_id=message.tool_call_id,
        tool_name=message.tool_name,
        tool_outcome=int(message.tool_outcome),
        images=[_Image(image.media_type, image.data, image.url) for image in message.images],
        output_schema=message.output_schema,
        summarized=None if message.summarized is None else _summarized(message.summarized),
    )
    return _encoder.encode(content).decode()


def _summarized(link: Summarized) -> _Summarized:
    return _Summarized(link.from_seq, link.through_seq, link.kept_run_seq, link.kept_seq)


MESSAGE_COLUMNS = "seq, id, run_id, run_seq, role, content::text, create_time"


def message_from_row(row: tuple[int, UUID, UUID, int, int, str, datetime]) -> Message:
    """A message from the columns of MESSAGE_COLUMNS."""
    seq, message_id, run_id, run_seq, role, text, create_time = row
    content = _decoder.decode(text)
    link = content.summarized
    return Message(
        id=message_id,
        run_id=run_id,
        run_seq=run_seq,
        role=MessageRole(role),
        text=content.text,
        create_time=create_time,
        seq=seq,
        reasoning=content.reasoning,
        reasoning_signature=content.reasoning_signature,
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments) for call in content.tool_calls),
        tool_call_id=content.tool_call_id,
        tool_name=content.tool_name,
        tool_outcome=ToolCallOutcome(content.tool_outcome),
        images=tuple(Image(image.media_type, image.data, image.url) for image in content.images),
        output_schema=content.output_schema,
        summarized=None
        if link is None
        else Summarized(link.from_seq, link.through_seq, link.kept_run_seq, link.kept_seq),
    )


RUN_COLUMNS = (
    "id, organization_id, agent_id, conversation_id, state, run_seq, input_preview, create_time, stop_reason, "
    "error_reason, error_message, input_tokens, output_tokens, cached_input_tokens, steps, start_time, end_time"
)
RUN_WIDTH = 17


def run_from_row(row: tuple[Any, ...]) -> Run:
    """A run from the columns of RUN_COLUMNS."""
    return Run(
        id=row[0],
        organization_id=row[1],
        agent_id=row[2],
        conversation_id=row[3],
        state=RunState(row[4]),
        first_seq=row[5],
        input_preview=row[6],
        create_time=row[7],
        stop_reason=RunStopReason(row[8]),
        error=None if row[9] is None else RunError(row[9], row[10] or ""),
        usage=TokenCount(row[11], row[12], row[13]),
        steps=row[14],
        start_time=row[15],
        end_time=row[16],
    )
