"""The Anthropic messages format: stream events in, as typed structs.

Protocol: https://docs.anthropic.com/en/api/messages and .../messages-streaming.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agent_svc.domain.model import StopReason, Usage

JsonObject = dict[str, Any]


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
    signature: str | None = None
    data: str | None = None
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


def _counts(usage: WireUsage) -> tuple[int | None, ...]:
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
    )
