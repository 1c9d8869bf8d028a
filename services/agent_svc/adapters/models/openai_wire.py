"""The OpenAI chat-completions format: requests out, chunks in, as typed structs that tolerate what compatible servers vary.

Protocol: https://platform.openai.com/docs/api-reference/chat. Fields that Hearth does not use are not decoded at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from agent_svc.adapters.models.assembly import arguments_object
from agent_svc.domain.model import (
    AssistantMessage,
    ChatMessage,
    ModelRequest,
    StopReason,
    SystemMessage,
    ToolCall,
    ToolChoice,
    ToolMessage,
    Usage,
    UserMessage,
)

JsonObject = dict[str, Any]


class Part(msgspec.Struct, gc=False):
    """A piece of content given as a list (Mistral)."""

    text: str | None = None


class Function(msgspec.Struct, gc=False):
    """`arguments` is a text, growing piece by piece, or (old Ollama) the whole object."""

    name: str | None = None
    arguments: str | JsonObject | None = None


class ToolCallPart(msgspec.Struct, gc=False):
    """A piece of a tool call; servers leave out the index, the id, or both."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct, gc=False):
    """What is new in a choice. `reasoning` and `reasoning_content` are two names of the same thing."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallPart] | None = None


class Choice(msgspec.Struct, gc=False):
    """`message` instead of `delta` when the server did not stream."""

    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None


class PromptDetails(msgspec.Struct, gc=False):
    """How many of the input's tokens came from the cache."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    """How many of the output's tokens were reasoning."""

    reasoning_tokens: int | None = None


class WireUsage(msgspec.Struct, gc=False):
    """Token counts; `prompt_cache_hit_tokens` is DeepSeek's name."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None

    def to_domain(self) -> Usage:
        """The counts under our names."""
        cached = self.prompt_tokens_details.cached_tokens if self.prompt_tokens_details else None
        details = self.completion_tokens_details
        return Usage(
            input_tokens=self.prompt_tokens or 0,
            output_tokens=self.completion_tokens or 0,
            cached_input_tokens=cached or self.prompt_cache_hit_tokens or 0,
            reasoning_tokens=(details.reasoning_tokens or 0) if details else 0,
            reported=True,
        )


class Chunk(msgspec.Struct, gc=False):
    """One event of the stream, or the whole answer of a server that did not stream."""

    choices: list[Choice] | None = None
    usage: WireUsage | None = None
    error: str | JsonObject | None = None
    object: str | None = None
    message: str | None = None


class ListedModel(msgspec.Struct, gc=False):
    """One entry of `/models`; the context window, where named at all, is `max_model_len` (vLLM) or `context_length` (OpenRouter)."""

    id: str
    max_model_len: int | None = None
    context_length: int | None = None

    @property
    def window(self) -> int | None:
        """The context window in tokens."""
        return self.max_model_len or self.context_length


class ModelList(msgspec.Struct, gc=False):
    """The answer of `/models`."""

    data: list[ListedModel]


_decode = msgspec.json.Decoder(Chunk).decode
_encoder = msgspec.json.Encoder()

_STOP_REASONS = {
    "tool_calls": StopReason.TOOL_CALLS,
    "function_call": StopReason.TOOL_CALLS,
    "length": StopReason.MAX_TOKENS,
    "content_filter": StopReason.CONTENT_FILTER,
}


def decode_chunk(payload: bytes) -> Chunk:
    """Decode one event. Raises ValueError for what is not JSON or has not the shape of a chunk.

    What the strict decoder refuses (half of a surrogate pair, broken UTF-8, a number as text) gets a second, slower chance.
    """
    try:
        return _decode(payload)
    except (ValueError, RecursionError):
        text = json.dumps(json.loads(payload.decode("utf-8", "replace")), ensure_ascii=False)
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return msgspec.json.decode(whole, type=Chunk, strict=False)


def stop_reason(finish_reason: str) -> StopReason:
    """Our name of the finish reason; unknown and missing ones are an ordinary end."""
    return _STOP_REASONS.get(finish_reason, StopReason.END_TURN)


def encode_request(request: ModelRequest, *, with_tools: bool, limit_field: str, left_out: frozenset[str]) -> bytes:
    """The body of the request. Without tools, earlier calls and results are told in plain words.

    `limit_field` is the server's name for the output limit; `left_out` are fields that it has refused before.
    """
    messages = _messages(request.messages) if with_tools else _plain_messages(request.messages)
    body: JsonObject = {"model": request.model, "messages": list(messages), "stream": True}
    body["stream_options"] = {"include_usage": True}
    if with_tools and request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
        if request.tool_choice is not ToolChoice.AUTO:
            body["tool_choice"] = request.tool_choice.value
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_output_tokens is not None:
        other = "max_tokens" if limit_field == "max_completion_tokens" else "max_completion_tokens"
        body[other if limit_field in left_out else limit_field] = request.max_output_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    for name in left_out:
        body.pop(name, None)
    return _encoder.encode(body)


def _messages(messages: Sequence[ChatMessage]) -> Iterator[JsonObject]:
    for message in messages:
        match message:
            case SystemMessage(text):
                yield {"role": "system", "content": text}
            case UserMessage(text):
                yield {"role": "user", "content": text}
            case ToolMessage(call_id, text):
                yield {"role": "tool", "tool_call_id": call_id, "content": text}
            case AssistantMessage(text, tool_calls=calls) if calls:
                yield {"role": "assistant", "content": text or None, "tool_calls": [_tool_call(call) for call in calls]}
            case AssistantMessage(text):
                yield {"role": "assistant", "content": text}


def _tool_call(call: ToolCall) -> JsonObject:
    # Chat templates parse the arguments of earlier calls and fail on anything but an object.
    arguments = _encoder.encode(arguments_object(call.arguments_json)).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _plain_messages(messages: Sequence[ChatMessage]) -> Iterator[JsonObject]:
    names: dict[str, str] = {}
    for message in messages:
        if isinstance(message, ToolMessage):
            name = names.get(message.tool_call_id, "a tool")
            yield {"role": "user", "content": f"[Result of {name}: {message.text}]"}
        elif isinstance(message, AssistantMessage):
            names.update((call.id, call.name) for call in message.tool_calls)
            calls = [f"[Called {call.name} with {call.arguments_json}]" for call in message.tool_calls]
            yield {"role": "assistant", "content": "\n".join([message.text, *calls] if message.text else calls)}
        else:
            yield {"role": "system" if isinstance(message, SystemMessage) else "user", "content": message.text}
