"""The body of a request in Anthropic's messages protocol.

Protocol: https://docs.anthropic.com/en/api/messages; thinking: https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from agent_svc.adapters.models import proof
from agent_svc.adapters.models.answer_schema import answer_tool_name
from agent_svc.adapters.models.assembly import arguments_object
from agent_svc.domain.model import (
    AssistantMessage,
    ChatMessage,
    ModelRequest,
    SystemMessage,
    ToolCall,
    ToolChoice,
    ToolMessage,
    UserMessage,
)

JsonObject = dict[str, Any]

DEFAULT_MAX_TOKENS = 8192
_THINKING_TOKENS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24576}
_CACHED = {"type": "ephemeral"}
_BAD_ID = re.compile(r"[^a-zA-Z0-9_-]")
_ANSWER_DESCRIPTION = "Gives the final answer. Call it once, when you are done, with the whole answer."
_ANSWER_RULE = "Give your final answer by calling the tool {name}, and in no other way."
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a model differs: newer ones take only `adaptive` thinking; `left_out` are fields that it has refused before.

    What a message's proof holds goes back only to its `origin`.
    """

    adaptive: bool = False
    left_out: frozenset[str] = frozenset()
    origin: str = ""


def answer_tool(request: ModelRequest) -> str:
    """Name of the tool that stands for the answer; empty when the answer is free text."""
    if request.output_schema is None:
        return ""
    return answer_tool_name([tool.name for tool in request.tools])


def encode_request(request: ModelRequest, dialect: Dialect) -> bytes:
    """The body of the request. The system text and the newest message end a prefix that the provider may cache."""
    thinking = _thinking(request, dialect)
    max_tokens = request.max_output_tokens or DEFAULT_MAX_TOKENS
    messages = _messages(request.messages, dialect, with_thinking=bool(thinking))
    body: JsonObject = {"model": request.model, "max_tokens": max_tokens, "stream": True}
    texts = [m.text for m in request.messages if isinstance(m, SystemMessage) and m.text.strip()]
    if thinking and request.output_schema is not None:
        texts.append(_ANSWER_RULE.format(name=answer_tool(request)))
    if texts:
        body["system"] = [{"type": "text", "text": "\n\n".join(texts), "cache_control": _CACHED}]
    if messages and messages[-1]["content"][-1]["type"] in ("text", "tool_result"):
        messages[-1]["content"][-1]["cache_control"] = _CACHED
    body["messages"] = messages
    _add_tools(body, request, thinking=bool(thinking))
    if thinking:
        _add_thinking(body, request, thinking, dialect)
    elif request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    for name in dialect.left_out:
        body.pop(name, None)
    return _encoder.encode(body)


def _add_tools(body: JsonObject, request: ModelRequest, *, thinking: bool) -> None:
    """The tools, the one that stands for the answer among them; it is forced, except where thinking forbids to force."""
    tools = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters} for tool in request.tools
    ]
    choice: JsonObject | None = None
    if request.tool_choice is not ToolChoice.AUTO:
        choice = {"type": "any" if request.tool_choice is ToolChoice.REQUIRED else "none"}
    if request.output_schema is not None:
        name = answer_tool(request)
        if not thinking:
            only = not tools or request.tool_choice is ToolChoice.NONE
            choice = {"type": "tool", "name": name} if only else {"type": "any"}
        tools.append({"name": name, "description": _ANSWER_DESCRIPTION, "input_schema": request.output_schema})
    if request.tools and not request.parallel_tool_calls and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if tools:
        body["tools"] = tools
        if choice is not None:
            body["tool_choice"] = choice


def _add_thinking(body: JsonObject, request: ModelRequest, budget: int, dialect: Dialect) -> None:
    if dialect.adaptive:
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        effort = request.reasoning_effort or "medium"
        body["output_config"] = {"effort": "low" if effort == "minimal" else effort}
    else:
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    if request.max_output_tokens is None:
        body["max_tokens"] += budget


def _thinking(request: ModelRequest, dialect: Dialect) -> int:
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
        if isinstance(message, AssistantMessage) and message.tool_calls and not _thoughts(message, dialect):
            return 0
    return budget


def _thoughts(message: AssistantMessage, dialect: Dialect) -> list[proof.ThinkingBlock]:
    signed = proof.read(message.reasoning_signature, dialect.origin)
    return signed.thinking if signed is not None else []


def _messages(messages: Sequence[ChatMessage], dialect: Dialect, *, with_thinking: bool) -> list[JsonObject]:
    """Alternating user and assistant messages; neighbours of one role are one message, results come first in theirs."""
    merged: list[JsonObject] = []
    for message in messages:
        if isinstance(message, SystemMessage):
            continue
        if isinstance(message, AssistantMessage):
            role, blocks = "assistant", list(_answer(message, _thoughts(message, dialect) if with_thinking else []))
        else:
            role, blocks = "user", [_result(message)] if isinstance(message, ToolMessage) else list(_input(message))
        if not blocks:
            continue
        if not merged and role == "assistant":
            merged.append({"role": "user", "content": [{"type": "text", "text": "(The conversation goes on.)"}]})
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(blocks)
        else:
            merged.append({"role": role, "content": blocks})
    return merged


def _result(message: ToolMessage) -> JsonObject:
    # An empty text block is refused, an empty result is not.
    content = [{"type": "text", "text": message.text}] if message.text.strip() else []
    result = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id), "content": content}
    return {**result, "is_error": True} if message.is_error else result


def _input(message: UserMessage) -> Iterator[JsonObject]:
    for image in message.images:
        if image.url:
            source = {"type": "url", "url": image.url}
        else:
            source = {"type": "base64", "media_type": image.media_type, "data": image.base64}
        yield {"type": "image", "source": source}
    yield from _text(message.text)


def _answer(message: AssistantMessage, thoughts: Sequence[proof.ThinkingBlock]) -> Iterator[JsonObject]:
    """The blocks in the order in which the model wrote them: the provider compares."""
    thought = said = called = 0
    for block in thoughts:
        yield from _text(message.text[said : block.text_before])
        yield from map(_call, message.tool_calls[called : block.calls_before])
        said, called = max(said, block.text_before), max(called, block.calls_before)
        if block.redacted:
            yield {"type": "redacted_thinking", "data": block.redacted}
            continue
        thinking = message.reasoning[thought : thought + block.characters]
        thought += block.characters
        if block.signature:
            yield {"type": "thinking", "thinking": thinking, "signature": block.signature}
    yield from _text(message.text[said:])
    yield from map(_call, message.tool_calls[called:])


def _text(text: str) -> list[JsonObject]:
    return [{"type": "text", "text": text}] if text.strip() else []


def _call(call: ToolCall) -> JsonObject:
    arguments = arguments_object(call.arguments_json)
    return {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": arguments}


def _id(call_id: str) -> str:
    """Ids of other providers' calls in an alphabet that this one takes."""
    return _BAD_ID.sub("_", call_id) or "call"
