"""A step as bytes: server-sent events of OpenAI chat completions and Anthropic messages, and the unstreamed OpenAI answer."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.fakes.model_script import ScriptedCall, Step

_encode = msgspec.json.Encoder().encode


@dataclass
class Frames:
    """What to send: `head` at once, then the `pieces` (which delays and faults count), then `tail`."""

    head: list[bytes] = field(default_factory=list[bytes])
    pieces: list[bytes] = field(default_factory=list[bytes])
    tail: list[bytes] = field(default_factory=list[bytes])


@functools.lru_cache(maxsize=64)
def split(text: str, size: int) -> tuple[str, ...]:
    """`size` characters at a time, or word by word for 0."""
    if size > 0:
        return tuple(text[i : i + size] for i in range(0, len(text), size))
    return tuple(re.findall(r"\S+\s*|\s+", text))


def arguments_of(call: ScriptedCall) -> str:
    """The arguments as text."""
    return call.arguments if isinstance(call.arguments, str) else _encode(call.arguments).decode()


def call_id(call: ScriptedCall, number: int, index: int) -> str:
    """The scripted id, or one that tells request and position."""
    return call.id or f"call_{number}_{index}"


def usage_of(step: Step, body: dict[str, Any]) -> dict[str, Any]:
    """The scripted usage, or a quarter of the request's characters and the number of pieces."""
    if step.usage is not None:
        return step.usage
    output = len(split(step.text, step.chunk_size)) + len(split(step.reasoning, step.chunk_size)) + len(step.tool_calls)
    prompt = len(_encode(body.get("messages") or [])) // 4
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def openai(step: Step, body: dict[str, Any], number: int) -> Frames:
    """Chat-completion chunks."""
    frames = Frames(head=[_chunk(body, number, {"role": "assistant", "content": ""})])
    for piece in split(step.reasoning, step.chunk_size):
        frames.pieces.append(_chunk(body, number, {"reasoning_content": piece}))
    for piece in split(step.text, step.chunk_size):
        frames.pieces.append(_chunk(body, number, {"content": piece}))
    for index, call in enumerate(step.tool_calls):
        frames.pieces.extend(_openai_call(step, body, number, index, call))
    if step.error_in_stream is not None:
        frames.tail.append(_sse({"error": step.error_in_stream}))
        return frames
    if "finish_reason" not in step.omit:
        reason = step.finish_reason or ("tool_calls" if step.tool_calls else "stop")
        frames.tail.append(_chunk(body, number, {}, reason))
    if "usage" not in step.omit and (body.get("stream_options") or {}).get("include_usage"):
        envelope = _envelope(body, number)
        frames.tail.append(_sse({**envelope, "choices": [], "usage": usage_of(step, body)}))
    if "done" not in step.omit:
        frames.tail.append(b"data: [DONE]\n\n")
    return frames


def openai_whole(step: Step, body: dict[str, Any], number: int) -> dict[str, Any]:
    """The answer to a request that does not stream."""
    message: dict[str, Any] = {"role": "assistant", "content": step.text}
    if step.reasoning:
        message["reasoning_content"] = step.reasoning
    if step.tool_calls:
        message["tool_calls"] = [
            {
                "id": call_id(call, number, index),
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_of(call)},
            }
            for index, call in enumerate(step.tool_calls)
        ]
    reason = step.finish_reason or ("tool_calls" if step.tool_calls else "stop")
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {**_envelope(body, number), "object": "chat.completion", "choices": [choice], "usage": usage_of(step, body)}


def anthropic(step: Step, body: dict[str, Any], number: int) -> Frames:
    """Message stream events: one content block for reasoning, one for text, one per tool call."""
    usage = usage_of(step, body)
    counts = {"input_tokens": usage.get("prompt_tokens", 0), "output_tokens": 1}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": [], "usage": counts}
    frames = Frames(head=[_event("message_start", message=message), _event("ping")])
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if step.reasoning:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in split(step.reasoning, step.chunk_size)]
        signature = {"type": "signature_delta", "signature": "c2lnbmVk"}
        blocks.append(({"type": "thinking", "thinking": ""}, [*deltas, signature]))
    if step.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in split(step.text, step.chunk_size)]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for index, call in enumerate(step.tool_calls):
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in split(arguments_of(call), 12)]
        block = {"type": "tool_use", "id": call_id(call, number, index), "name": call.name, "input": {}}
        blocks.append((block, deltas))
    for index, (block, deltas) in enumerate(blocks):
        pieces = [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        # A block's first and last events travel with its first and last pieces, so that pieces count the same as with OpenAI.
        pieces[0] = _event("content_block_start", index=index, content_block=block) + pieces[0]
        pieces[-1] += _event("content_block_stop", index=index)
        frames.pieces.extend(pieces)
    if step.error_in_stream is not None:
        frames.tail.append(_event("error", error=step.error_in_stream))
        return frames
    reason = step.finish_reason or ("tool_use" if step.tool_calls else "end_turn")
    output = {"output_tokens": usage.get("completion_tokens", 0)}
    if "finish_reason" not in step.omit:
        frames.tail.append(_event("message_delta", delta={"stop_reason": reason}, usage=output))
    if "done" not in step.omit:
        frames.tail.append(_event("message_stop"))
    return frames


def _openai_call(step: Step, body: dict[str, Any], number: int, index: int, call: ScriptedCall) -> list[bytes]:
    place: dict[str, Any] = {} if "tool_index" in step.omit else {"index": index}
    first: dict[str, Any] = {**place, "type": "function", "function": {"name": call.name, "arguments": ""}}
    if "tool_id" not in step.omit:
        first["id"] = call_id(call, number, index)
    pieces = [first] + [{**place, "function": {"arguments": piece}} for piece in split(arguments_of(call), 12)]
    return [_chunk(body, number, {"tool_calls": [piece]}) for piece in pieces]


def _envelope(body: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": body.get("model", ""),
        "system_fingerprint": "fp_scripted",
    }


def _chunk(body: dict[str, Any], number: int, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _sse({**_envelope(body, number), "choices": [choice]})


def _sse(value: dict[str, Any]) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\n" + _sse({"type": kind, **fields})
