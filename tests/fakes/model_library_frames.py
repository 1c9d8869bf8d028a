"""A step as bytes in two more protocols: OpenAI Responses and Google's streamGenerateContent."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.fakes.model_frames import Frames, arguments_of, call_id, split, usage_of
from tests.fakes.model_script import Step

_encode = msgspec.json.Encoder().encode


def responses(step: Step, body: dict[str, Any], number: int) -> Frames:
    """Events of OpenAI Responses: one output item for reasoning, one for text, one per call."""
    frames, output, place = Frames(head=[_event("response.created", response=_response(body, number, []))]), [], 0
    if step.reasoning:
        item = {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": "c2lnbmVk"}
        frames.pieces.append(_event("response.output_item.added", output_index=place, item={**item, "summary": []}))
        at = {"item_id": item["id"], "output_index": place, "summary_index": 0}
        part = {"type": "summary_text", "text": ""}
        frames.pieces.append(_event("response.reasoning_summary_part.added", **at, part=part))
        for piece in split(step.reasoning, step.chunk_size):
            frames.pieces.append(_event("response.reasoning_summary_text.delta", **at, delta=piece))
        item["summary"] = [{"type": "summary_text", "text": step.reasoning}]
        frames.pieces.append(_event("response.output_item.done", output_index=place, item=item))
        output.append(item)
        place += 1
    if step.text:
        item = {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "in_progress", "content": []}
        frames.pieces.append(_event("response.output_item.added", output_index=place, item=item))
        at = {"item_id": item["id"], "output_index": place, "content_index": 0}
        part = {"type": "output_text", "text": "", "annotations": []}
        frames.pieces.append(_event("response.content_part.added", **at, part=part))
        for piece in split(step.text, step.chunk_size):
            frames.pieces.append(_event("response.output_text.delta", **at, delta=piece, logprobs=[]))
        whole = {**item, "status": "completed", "content": [{**part, "text": step.text}]}
        frames.pieces.append(_event("response.output_item.done", output_index=place, item=whole))
        output.append(whole)
        place += 1
    for index, call in enumerate(step.tool_calls):
        known = call_id(call, number, index)
        item = {"type": "function_call", "id": f"fc_{known}", "call_id": known, "name": call.name, "arguments": ""}
        frames.pieces.append(_event("response.output_item.added", output_index=place, item=item))
        for piece in split(arguments_of(call), 12):
            at = {"item_id": item["id"], "output_index": place}
            frames.pieces.append(_event("response.function_call_arguments.delta", **at, delta=piece))
        whole = {**item, "arguments": arguments_of(call), "status": "completed"}
        frames.pieces.append(_event("response.output_item.done", output_index=place, item=whole))
        output.append(whole)
        place += 1
    usage = usage_of(step, body)
    read, written = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    counts = {
        "input_tokens": read,
        "output_tokens": written,
        "total_tokens": read + written,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    done = {**_response(body, number, output), "status": "completed", "usage": counts}
    frames.tail.append(_event("response.completed", response=done))
    return frames


def google(step: Step, body: dict[str, Any], number: int) -> Frames:
    """Chunks of generateContent; a call comes whole, with the signature that Gemini wants back."""
    frames = Frames()
    for piece in split(step.reasoning, step.chunk_size):
        frames.pieces.append(_candidate([{"text": piece, "thought": True}]))
    for piece in split(step.text, step.chunk_size):
        frames.pieces.append(_candidate([{"text": piece}]))
    for index, call in enumerate(step.tool_calls):
        wanted = {
            "id": call_id(call, number, index),
            "name": call.name,
            "args": msgspec.json.decode(arguments_of(call)),
        }
        frames.pieces.append(_candidate([{"functionCall": wanted, "thoughtSignature": "c2lnbmVk"}]))
    usage = usage_of(step, body)
    counts = {
        "promptTokenCount": usage.get("prompt_tokens", 0),
        "candidatesTokenCount": usage.get("completion_tokens", 0),
    }
    frames.tail.append(_candidate([{"text": ""}], finishReason=step.finish_reason or "STOP", usage=counts))
    return frames


def _response(body: dict[str, Any], number: int, output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1_700_000_000,
        "model": body.get("model", ""),
        "status": "in_progress",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def _event(kind: str, **fields: Any) -> bytes:
    body = _encode({"type": kind, "sequence_number": 0, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + body + b"\n\n"


def _candidate(parts: list[dict[str, Any]], *, usage: dict[str, Any] | None = None, **fields: Any) -> bytes:
    chunk: dict[str, Any] = {"candidates": [{"content": {"role": "model", "parts": parts}, "index": 0, **fields}]}
    if usage is not None:
        chunk["usageMetadata"] = usage
    return b"data: " + _encode(chunk) + b"\r\n\r\n"
