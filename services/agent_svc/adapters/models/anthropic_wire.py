"""The Anthropic messages format: requests out, stream events in, as typed structs.

Protocol: https://docs.anthropic.com/en/api/messages and .../messages-streaming.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from agent_svc.adapters.models.assembly import arguments_object
from agent_svc.domain.model import (
    AssistantMessage,
    ChatMessage,
    ModelRequest,
    StopReason,
    SystemMessage,
    ToolChoice,
    ToolMessage,
    Usage,
    UserMessage,
)

JsonObject = dict[str, Any]

DEFAULT_MAX_TOKENS = 8192
_THINKING_TOKENS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24576}
_CACHED = {"type": "ephemeral"}
_BAD_ID = re.compile(r"[^a-zA-Z0-9_-]")


class WireUsage(msgspec.Struct, gc=False):
    """Token counts; `input_tokens` leaves out what the cache gave or took."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class Message(msgspec.Struct, gc=False):
    """The empty message of `message_start`."""

    usage: WireUsage | None = None


class Block(msgspec.Struct, gc=False):
    """A content block as it begins."""

    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    input: JsonObject | None = None


class Delta(msgspec.Struct, gc=False):
    """What a content block grows by, or the message's stop reason."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class Event(msgspec.Struct, gc=False):
    """Any event of the stream; `type` says which fields are set."""

    type: str
    index: int = 0
    message: Message | None = None
    content_block: Block | None = None
    delta: Delta | None = None
    usage: WireUsage | None = None
    error: str | JsonObject | None = None


class ListedModel(msgspec.Struct, gc=False):
    """One entry of `/models`."""

    id: str


class ModelList(msgspec.Struct, gc=False):
    """The answer of `/models`."""

    data: list[ListedModel]


decode_event = msgspec.json.Decoder(Event).decode
_encoder = msgspec.json.Encoder()

_STOP_REASONS = {
    "tool_use": StopReason.TOOL_CALLS,
    "max_tokens": StopReason.MAX_TOKENS,
    "model_context_window_exceeded": StopReason.MAX_TOKENS,
    "stop_sequence": StopReason.STOP_SEQUENCE,
    "refusal": StopReason.CONTENT_FILTER,
}


def stop_reason(name: str) -> StopReason:
    """Our name of the stop reason; unknown and missing ones are an ordinary end."""
    return _STOP_REASONS.get(name, StopReason.END_TURN)


def merge_usage(known: WireUsage, new: WireUsage) -> WireUsage:
    """Later counts are cumulative: they replace earlier ones where they are given."""
    return WireUsage(*((b if b is not None else a) for a, b in zip(_counts(known), _counts(new), strict=True)))


def to_usage(wire: WireUsage) -> Usage:
    """The counts under our names, where input includes the cached part."""
    read, written = wire.cache_read_input_tokens or 0, wire.cache_creation_input_tokens or 0
    return Usage(
        input_tokens=(wire.input_tokens or 0) + read + written,
        output_tokens=wire.output_tokens or 0,
        cached_input_tokens=read,
        cache_write_tokens=written,
        reported=wire.input_tokens is not None or wire.output_tokens is not None,
    )


def encode_request(request: ModelRequest) -> bytes:
    """The body of the request. The system text and the newest message end a prefix that the provider may cache."""
    thinking = _thinking(request)
    max_tokens = request.max_output_tokens or DEFAULT_MAX_TOKENS
    messages = _messages(request.messages, with_thinking=bool(thinking))
    body: JsonObject = {"model": request.model, "max_tokens": max_tokens, "stream": True}
    system = "\n\n".join(m.text for m in request.messages if isinstance(m, SystemMessage) and m.text.strip())
    if system:
        body["system"] = [{"type": "text", "text": system, "cache_control": _CACHED}]
    if messages and messages[-1]["content"][-1]["type"] in ("text", "tool_result"):
        messages[-1]["content"][-1]["cache_control"] = _CACHED
    body["messages"] = messages
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
            for tool in request.tools
        ]
        if request.tool_choice is not ToolChoice.AUTO:
            body["tool_choice"] = {"type": "any" if request.tool_choice is ToolChoice.REQUIRED else "none"}
    if thinking:
        body["thinking"] = {"type": "enabled", "budget_tokens": thinking}
        body["max_tokens"] = max_tokens if request.max_output_tokens else max_tokens + thinking
    elif request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    return _encoder.encode(body)


def _counts(usage: WireUsage) -> tuple[int | None, ...]:
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
    )


def _thinking(request: ModelRequest) -> int:
    """Tokens the model may think for; 0 for none.

    None either where the limit leaves no room, a tool is forced, or the turn under way was begun without thinking: then
    the provider refuses it.
    """
    budget = _THINKING_TOKENS.get(request.reasoning_effort or "", 0)
    if request.max_output_tokens is not None:
        budget = min(budget, request.max_output_tokens // 2)
    if budget < 1024 or request.tool_choice is ToolChoice.REQUIRED:
        return 0
    for message in reversed(request.messages):
        if isinstance(message, UserMessage):
            break
        if isinstance(message, AssistantMessage) and message.tool_calls and not message.reasoning_signature:
            return 0
    return budget


def _messages(messages: Sequence[ChatMessage], *, with_thinking: bool) -> list[JsonObject]:
    """Alternating user and assistant messages; neighbours of one role are one message, results come first in theirs."""
    merged: list[JsonObject] = []
    for message in messages:
        if isinstance(message, SystemMessage):
            continue
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        blocks = _blocks(message, with_thinking=with_thinking)
        if not blocks:
            continue
        if not merged and role == "assistant":
            merged.append({"role": "user", "content": [{"type": "text", "text": "(The conversation goes on.)"}]})
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(blocks)
        else:
            merged.append({"role": role, "content": blocks})
    return merged


def _blocks(message: ChatMessage, *, with_thinking: bool) -> list[JsonObject]:
    if isinstance(message, ToolMessage):
        # An empty text block is refused, an empty result is not.
        content = [{"type": "text", "text": message.text}] if message.text.strip() else []
        result = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id), "content": content}
        return [{**result, "is_error": True} if message.is_error else result]
    blocks: list[JsonObject] = [{"type": "text", "text": message.text}] if message.text.strip() else []
    if isinstance(message, AssistantMessage):
        if with_thinking and message.reasoning_signature:
            thinking = {"type": "thinking", "thinking": message.reasoning, "signature": message.reasoning_signature}
            blocks.insert(0, thinking)
        for call in message.tool_calls:
            arguments = arguments_object(call.arguments_json)
            blocks.append({"type": "tool_use", "id": _id(call.id), "name": call.name, "input": arguments})
    return blocks


def _id(call_id: str) -> str:
    """Ids of other providers' calls in an alphabet that this one takes."""
    return _BAD_ID.sub("_", call_id) or "call"
