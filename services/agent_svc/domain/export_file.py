"""The file of an exported agent: JSON, a record a line, each read strictly. docs/export.md describes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.image import BadImage, Image, check_together, image_from_bytes, image_from_url
from agent_svc.domain.model import ToolCall

FORMAT = 1
# Of a whole file, which is held in memory while it is imported; of a line, which holds a message's images.
MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_RECORDS = 50_000
MAX_CONVERSATIONS = 1_000
MAX_TOOLS = 128
MAX_BLOCKS = 64
MAX_IMAGES = 8
# Of a message's texts together: it travels in one piece.
_MAX_TEXT_BYTES = 2 * 1024 * 1024
_YEARS = range(1970, 2201)

_Id: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
_Time: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class _Record(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", omit_defaults=True):
    pass


class HeaderRecord(_Record, tag="header"):
    """The first line."""

    format: int


class ToolRecord(_Record, tag="tool"):
    """A tool; without `spec` it is only named: it must be there where the agent comes to."""

    id: _Id
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    spec: dict[str, Any] | None = None


class BlockRecord(_Record, tag="block"):
    """A core memory block of the agent."""

    label: Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
    value: Annotated[str, msgspec.Meta(max_length=100_000)] = ""
    description: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 5000
    read_only: bool = False


class AgentRecord(_Record, tag="agent"):
    """The agent: fields of a CreateAgentRequest, and which of the file's tools it has."""

    spec: dict[str, Any]
    tools: list[_Id] = []


class ConversationRecord(_Record, tag="conversation"):
    """A conversation; exactly one is the default one."""

    id: _Id
    display_name: Annotated[str, msgspec.Meta(max_length=128)] = ""
    default: bool = False


class CallRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool call of an assistant message."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    name: Annotated[str, msgspec.Meta(max_length=128)]
    arguments: str


class ImageRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An image of a user message; `data` is base64."""

    media_type: Annotated[str, msgspec.Meta(max_length=64)] = ""
    data: bytes = b""
    url: str = ""


class MessageRecord(_Record, tag="message"):
    """A message, after its conversation and in its order."""

    conversation: _Id
    run: _Id
    role: Literal["user", "assistant", "tool"]
    create_time: _Time
    text: str = ""
    reasoning: str = ""
    reasoning_signature: str = ""
    tool_calls: Annotated[list[CallRecord], msgspec.Meta(max_length=256)] = []
    tool_call_id: Annotated[str, msgspec.Meta(max_length=256)] = ""
    tool_name: Annotated[str, msgspec.Meta(max_length=128)] = ""
    tool_outcome: Literal["none", "succeeded", "failed", "unknown"] = "none"
    images: Annotated[list[ImageRecord], msgspec.Meta(max_length=MAX_IMAGES)] = []
    output_schema: str = ""


class EndRecord(_Record, tag="end"):
    """The last line: how many came before it, so that a file cut short is known as one."""

    records: int


Record: TypeAlias = (
    HeaderRecord | ToolRecord | BlockRecord | AgentRecord | ConversationRecord | MessageRecord | EndRecord
)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class ExportFault(ValueError):
    """The file is no export that can be imported; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(slots=True)
class ExportedConversation:
    """A conversation with its messages; their ids are the file's own until they are renumbered."""

    display_name: str
    default: bool
    messages: list[Message] = field(default_factory=list[Message])


@dataclass(frozen=True, slots=True)
class ExportedAgent:
    """A file that was read and holds together. Lines are those of the records, for faults that are found later."""

    spec: Mapping[str, Any]
    line: int
    tools: Sequence[tuple[ToolRecord, int]]
    blocks: Sequence[BlockRecord]
    conversations: Sequence[ExportedConversation]


def encode_record(record: Record) -> bytes:
    """The line of a record."""
    return _encoder.encode(record) + b"\n"


def message_record(message: Message, conversation: str, run: str) -> MessageRecord:
    """A stored message as the file has it."""
    return MessageRecord(
        conversation=conversation,
        run=run,
        role=message.role.name.lower(),  # pyright: ignore[reportArgumentType]  # the enum's names are the literal's
        create_time=message.create_time,
        text=message.text,
        reasoning=message.reasoning,
        reasoning_signature=message.reasoning_signature,
        tool_calls=[CallRecord(call.id, call.name, call.arguments_json) for call in message.tool_calls],
        tool_call_id=message.tool_call_id,
        tool_name=message.tool_name,
        tool_outcome=message.tool_outcome.name.lower(),  # pyright: ignore[reportArgumentType]  # as the role
        images=[ImageRecord(image.media_type, image.data, image.url) for image in message.images],
        output_schema=message.output_schema,
    )


class _Reader:
    """What was read so far."""

    def __init__(self) -> None:
        self.tools: dict[str, tuple[ToolRecord, int]] = {}
        self.blocks: dict[str, BlockRecord] = {}
        self.agent: tuple[AgentRecord, int] | None = None
        self.conversations: dict[str, ExportedConversation] = {}
        self.runs: dict[tuple[str, str], UUID] = {}
        # Calls of a run that may still be answered.
        self.open_calls: set[tuple[UUID, str]] = set()

    def take(self, record: Record, line: int) -> None:
        match record:
            case ToolRecord():
                self._new(record.id not in self.tools and len(self.tools) < MAX_TOOLS, "tool", line)
                self.tools[record.id] = (record, line)
            case BlockRecord():
                self._new(record.label not in self.blocks and len(self.blocks) < MAX_BLOCKS, "block", line)
                if len(record.value) > record.limit:
                    raise ExportFault("the block's value is longer than its limit", line)
                self.blocks[record.label] = record
            case AgentRecord():
                self._new(self.agent is None, "agent", line)
                if not set(record.tools) <= set(self.tools):
                    raise ExportFault("the agent has a tool that is not in the file before it", line)
                self.agent = (record, line)
            case ConversationRecord():
                fits = record.id not in self.conversations and len(self.conversations) < MAX_CONVERSATIONS
                self._new(fits, "conversation", line)
                self.conversations[record.id] = ExportedConversation(record.display_name, record.default)
            case MessageRecord():
                self._message(record, line)
            case _:
                raise ExportFault("this record cannot stand here", line)

    def _message(self, record: MessageRecord, line: int) -> None:
        conversation = self.conversations.get(record.conversation)
        if conversation is None:
            raise ExportFault("the message's conversation is not in the file before it", line)
        run = self.runs.setdefault((record.conversation, record.run), UUID(int=len(self.runs) + 1))
        message = _message(record, run, len(conversation.messages) + 1, line)
        if message.role is MessageRole.TOOL:
            if (run, message.tool_call_id) not in self.open_calls:
                raise ExportFault("the message answers no open tool call of its run", line)
            self.open_calls.discard((run, message.tool_call_id))
        for call in message.tool_calls:
            self.open_calls.add((run, call.id))
        conversation.messages.append(message)

    def _new(self, fits: bool, what: str, line: int) -> None:
        if not fits:
            raise ExportFault(f"this {what} is one too many, or stands here twice", line)

    def result(self, line: int) -> ExportedAgent:
        if self.agent is None:
            raise ExportFault("there is no agent", line)
        if sum(one.default for one in self.conversations.values()) != 1:
            raise ExportFault("not exactly one conversation is the default one", line)
        record, agent_line = self.agent
        tools = [self.tools[tool_id] for tool_id in record.tools]
        return ExportedAgent(
            record.spec, agent_line, tools, list(self.blocks.values()), list(self.conversations.values())
        )


def read_export(data: bytes) -> ExportedAgent:
    """Raises ExportFault for whatever does not hold together; nothing of the file is trusted."""
    reader = _Reader()
    lines = data.split(b"\n")
    if lines[-1]:
        raise ExportFault("the file is cut short: its last line has no end", len(lines))
    count = len(lines) - 1
    if count > MAX_RECORDS:
        raise ExportFault(f"more than {MAX_RECORDS} records", MAX_RECORDS)
    for number, text in enumerate(lines[:-1], 1):
        record = _decoded(text, number)
        if number == 1:
            if not isinstance(record, HeaderRecord) or record.format != FORMAT:
                raise ExportFault(f"the first record must be a header of format {FORMAT}", 1)
        elif number == count:
            if not isinstance(record, EndRecord) or record.records != count - 1:
                raise ExportFault("the file is cut short: its last record must be the end", number)
        else:
            reader.take(record, number)
    return reader.result(max(count, 1))


def _decoded(text: bytes, line: int) -> Record:
    if len(text) > MAX_LINE_BYTES:
        raise ExportFault(f"is longer than {MAX_LINE_BYTES // 1024**2} MiB", line)
    try:
        record = _decoder.decode(text)
        texts_hold(msgspec.to_builtins(record), line)
    except msgspec.MsgspecError as error:
        raise ExportFault(str(error)[:300], line) from None
    except (UnicodeError, RecursionError, ValueError) as error:
        if isinstance(error, ExportFault):
            raise
        raise ExportFault("is not UTF-8 JSON of a record", line) from None
    return record


def texts_hold(value: Any, line: int) -> None:
    """Raises ExportFault for characters that cannot be stored, wherever they are."""
    todo: list[Any] = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            one.encode()
            if "\x00" in one:
                raise ExportFault("holds a NUL character", line)
        elif isinstance(one, Mapping):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, list):
            todo += one


def _message(record: MessageRecord, run: UUID, seq: int, line: int) -> Message:
    texts: Iterable[str] = (
        *(record.text, record.reasoning, record.reasoning_signature, record.output_schema),
        *(call.arguments for call in record.tool_calls),
    )
    if sum(len(text.encode()) for text in texts) > _MAX_TEXT_BYTES:
        raise ExportFault(f"the message's texts are longer than {_MAX_TEXT_BYTES // 1024**2} MiB", line)
    role = MessageRole[record.role.upper()]
    outcome = ToolCallOutcome[record.tool_outcome.upper()]
    if bool(record.tool_call_id) is not (role is MessageRole.TOOL) or (role is MessageRole.TOOL) is not bool(outcome):
        raise ExportFault("a tool message, and no other, has tool_call_id and tool_outcome", line)
    if record.tool_calls and role is not MessageRole.ASSISTANT:
        raise ExportFault("only an assistant message has tool_calls", line)
    if len({call.id for call in record.tool_calls}) != len(record.tool_calls):
        raise ExportFault("two calls of the message have the same id", line)
    if record.create_time.year not in _YEARS:
        raise ExportFault("create_time is not of our times", line)
    return Message(
        id=UUID(int=seq),
        run_id=run,
        run_seq=0,
        seq=seq,
        role=role,
        text=record.text,
        create_time=record.create_time,
        reasoning=record.reasoning,
        reasoning_signature=record.reasoning_signature,
        tool_calls=tuple(ToolCall(call.id, call.name, call.arguments) for call in record.tool_calls),
        tool_call_id=record.tool_call_id,
        tool_name=record.tool_name,
        tool_outcome=outcome,
        images=_images(record, role, line),
        output_schema=record.output_schema,
    )


def _images(record: MessageRecord, role: MessageRole, line: int) -> tuple[Image, ...]:
    if record.images and role is not MessageRole.USER:
        raise ExportFault("only a user message has images", line)
    try:
        images = tuple(
            image_from_bytes(one.data, one.media_type) if one.data else image_from_url(one.url) for one in record.images
        )
        check_together(images)
    except BadImage as error:
        raise ExportFault(f"an image {error}", line) from None
    return images
