"""The body of an OpenAI chat-completions request, in the dialect of the server that it goes to.

Protocol: https://platform.openai.com/docs/api-reference/chat.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agent_svc.adapters.models import proof
from agent_svc.adapters.models.answer_schema import ANSWER_NAME, in_words, is_strict
from agent_svc.adapters.models.assembly import arguments_object
from agent_svc.domain.model import (
    AssistantMessage,
    ChatMessage,
    ModelRequest,
    SystemMessage,
    ToolChoice,
    ToolMessage,
    UserMessage,
)

JsonObject = dict[str, Any]

NO_IMAGES_NOTE = "[An image was shown here. You cannot see images.]"
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server differs: `limit_field` is its name for the output limit, `left_out` are fields that it has refused before.

    Without tools, earlier calls and results are told in plain words; without images, that there was one. What a message's
    proof holds goes back only to its `origin`.
    """

    with_tools: bool = True
    with_images: bool = True
    limit_field: str = "max_tokens"
    left_out: frozenset[str] = frozenset()
    origin: str = ""


def encode_request(request: ModelRequest, dialect: Dialect) -> bytes:
    """The body of the request."""
    messages = _messages(request.messages, dialect) if dialect.with_tools else _plain(request.messages, dialect)
    body: JsonObject = {"model": request.model, "messages": list(messages), "stream": True}
    body["stream_options"] = {"include_usage": True}
    # Not offered at all where none may be called: some servers do not know tool_choice.
    if dialect.with_tools and request.tools and request.tool_choice is not ToolChoice.NONE:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
            }
            for tool in request.tools
        ]
        if request.tool_choice is not ToolChoice.AUTO:
            body["tool_choice"] = request.tool_choice.value
        if not request.parallel_tool_calls:
            body["parallel_tool_calls"] = False
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_output_tokens is not None:
        other = "max_tokens" if dialect.limit_field == "max_completion_tokens" else "max_completion_tokens"
        name = other if dialect.limit_field in dialect.left_out else dialect.limit_field
        body[name] = request.max_output_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.reasoning_effort is not None:
        body["reasoning_effort"] = request.reasoning_effort
    if request.output_schema is not None:
        _ask_for_schema(body, request.output_schema, dialect)
    for name in dialect.left_out:
        body.pop(name, None)
    return _encoder.encode(body)


def _ask_for_schema(body: JsonObject, schema: Any, dialect: Dialect) -> None:
    """By the protocol's own field, or in words to a server that has refused it."""
    if "response_format" in dialect.left_out:
        messages: list[JsonObject] = body["messages"]
        if messages and messages[0]["role"] == "system":
            messages[0]["content"] += "\n\n" + in_words(schema)
        else:
            messages.insert(0, {"role": "system", "content": in_words(schema)})
        return
    described = {"name": ANSWER_NAME, "schema": schema, "strict": is_strict(schema)}
    body["response_format"] = {"type": "json_schema", "json_schema": described}


def _messages(messages: Sequence[ChatMessage], dialect: Dialect) -> Iterator[JsonObject]:
    in_tool_turn = False
    for message in messages:
        match message:
            case SystemMessage(text):
                yield {"role": "system", "content": text}
            case UserMessage():
                in_tool_turn = False
                yield {"role": "user", "content": _content(message, dialect)}
            case ToolMessage(call_id, text):
                yield {"role": "tool", "tool_call_id": call_id, "content": text}
            case AssistantMessage():
                in_tool_turn = in_tool_turn or bool(message.tool_calls)
                yield _assistant(message, dialect, in_tool_turn=in_tool_turn)


def _content(message: UserMessage, dialect: Dialect) -> str | list[JsonObject]:
    if not message.images:
        return message.text
    if not dialect.with_images:
        return "\n".join([*(NO_IMAGES_NOTE for _ in message.images), message.text])
    parts: list[JsonObject] = [
        {"type": "image_url", "image_url": {"url": image.url or image.data_url}} for image in message.images
    ]
    return [*parts, {"type": "text", "text": message.text}]


def _assistant(message: AssistantMessage, dialect: Dialect, *, in_tool_turn: bool) -> JsonObject:
    """With what its server wants back: signatures always, plain reasoning only in turns that call tools."""
    sent: JsonObject = {"role": "assistant", "content": message.text}
    signed = proof.read(message.reasoning_signature, dialect.origin)
    if message.tool_calls:
        sent["content"] = message.text or None
        sent["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                # Chat templates parse the arguments of earlier calls and fail on anything but an object.
                "function": {
                    "name": call.name,
                    "arguments": _encoder.encode(arguments_object(call.arguments_json)).decode(),
                },
            }
            for call in message.tool_calls
        ]
    if signed is None:
        return sent
    if signed.details and "reasoning_details" not in dialect.left_out:
        sent["reasoning_details"] = signed.details
    elif signed.reasoning_field and in_tool_turn and signed.reasoning_field not in dialect.left_out:
        sent[signed.reasoning_field] = message.reasoning
    if "extra_content" not in dialect.left_out:
        for place, extra in signed.calls.items():
            if place < len(message.tool_calls):
                sent["tool_calls"][place]["extra_content"] = extra
    return sent


def _plain(messages: Sequence[ChatMessage], dialect: Dialect) -> Iterator[JsonObject]:
    names: dict[str, str] = {}
    for message in messages:
        if isinstance(message, ToolMessage):
            name = names.get(message.tool_call_id, "a tool")
            yield {"role": "user", "content": f"[Result of {name}: {message.text}]"}
        elif isinstance(message, AssistantMessage):
            names.update((call.id, call.name) for call in message.tool_calls)
            calls = [f"[Called {call.name} with {call.arguments_json}]" for call in message.tool_calls]
            yield {"role": "assistant", "content": "\n".join([message.text, *calls] if message.text else calls)}
        elif isinstance(message, UserMessage):
            yield {"role": "user", "content": _content(message, dialect)}
        else:
            yield {"role": "system", "content": message.text}
