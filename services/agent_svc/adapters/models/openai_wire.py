"""The OpenAI chat-completions format: chunks in, as typed structs that tolerate what compatible servers vary.

Protocol: https://platform.openai.com/docs/api-reference/chat. Fields that Hearth does not use are not decoded at all.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec

from agent_svc.domain.model import ModelCapabilities, StopReason, Usage

JsonObject = dict[str, Any]


class Part(msgspec.Struct, gc=False):
    """A piece of content given as a list (Mistral); `thinking` holds pieces of reasoning."""

    text: str | None = None
    thinking: list[Part] | None = None


class Function(msgspec.Struct, gc=False):
    """`arguments` is a text, growing piece by piece, or (old Ollama) the whole object."""

    name: str | None = None
    arguments: str | JsonObject | None = None


class ToolCallPart(msgspec.Struct, gc=False):
    """A piece of a tool call; servers leave out the index, the id, or both. `extra_content` is Gemini's signature."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: JsonObject | None = None


class Delta(msgspec.Struct, gc=False):
    """What is new in a choice. `reasoning` and `reasoning_content` are two names of the same thing."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[JsonObject] | None = None
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


class Architecture(msgspec.Struct, gc=False):
    """What a model takes, as OpenRouter lists it."""

    input_modalities: list[str] | None = None


class ListedModel(msgspec.Struct, gc=False):
    """One entry of `/models`; what servers say beside the name differs.

    The window is `max_model_len` (vLLM), `context_length` (OpenRouter), `context_window` (Groq), or `max_context_length`
    (LM Studio, Mistral).
    """

    id: str
    max_model_len: int | None = None
    context_length: int | None = None
    context_window: int | None = None
    max_context_length: int | None = None
    architecture: Architecture | None = None
    supported_parameters: list[str] | None = None

    @property
    def window(self) -> int | None:
        """The context window in tokens."""
        return self.max_model_len or self.context_length or self.context_window or self.max_context_length

    def improve(self, known: ModelCapabilities) -> ModelCapabilities:
        """What is known otherwise, bettered by the server's own word."""
        if self.window:
            known = replace(known, context_window=self.window)
        if self.architecture is not None and self.architecture.input_modalities is not None:
            known = replace(known, images="image" in self.architecture.input_modalities)
        if self.supported_parameters is not None:
            known = replace(
                known,
                supports_tools=known.supports_tools and "tools" in self.supported_parameters,
                reasoning="reasoning" in self.supported_parameters,
                structured_output="structured_outputs" in self.supported_parameters,
            )
        return known


class ModelList(msgspec.Struct, gc=False):
    """The answer of `/models`."""

    data: list[ListedModel]


_decode = msgspec.json.Decoder(Chunk).decode

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
