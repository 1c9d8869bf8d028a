"""Puts a streamed answer together: texts, reasoning, and tool calls from whatever pieces a server sends them in."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent_svc.adapters.models import proof
from agent_svc.domain.model import (
    ModelEvent,
    ModelFinished,
    ReasoningDelta,
    StopReason,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)


@dataclass(slots=True, eq=False)
class _Slot:
    index: int
    id: str
    name: str
    arguments: list[str] = field(default_factory=list[str])


class Assembly:
    """The answer so far.

    `text`, `reasoning` and `tool_call` take pieces; `drain` gives the deltas since the last drain, neighbours of one kind
    merged, so that what arrived in one network chunk costs one event.
    """

    __slots__ = ("_events", "_pending", "_pending_reasoning", "_reasoning", "_slots", "_text", "proof", "usage")

    def __init__(self, origin: str = "") -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._slots: list[_Slot] = []
        self._events: list[ModelEvent] = []
        self._pending = ""
        self._pending_reasoning = False
        self.proof = proof.Proof(origin)
        self.usage = Usage()

    @property
    def is_empty(self) -> bool:
        """Whether nothing of an answer has come yet."""
        return not (self._slots or self._text or self._reasoning or self._pending)

    @property
    def text_characters(self) -> int:
        """Length of the answer's text so far."""
        return sum(map(len, self._text)) + (0 if self._pending_reasoning else len(self._pending))

    @property
    def calls(self) -> int:
        """How many tool calls have begun."""
        return len(self._slots)

    def text(self, piece: str) -> None:
        """Append to the answer's text."""
        if self._pending_reasoning:
            self._flush()
            self._pending_reasoning = False
        self._pending += piece

    def reasoning(self, piece: str) -> None:
        """Append to the reasoning."""
        if not self._pending_reasoning:
            self._flush()
            self._pending_reasoning = True
        self._pending += piece

    def tool_call(self, index: int | None, call_id: str, name: str, arguments: str) -> int:
        """Begin a tool call or add to one; any of the parts may be missing or repeated. Gives the call's position.

        A piece belongs to the call of its index, else of its id, else to the last one. It begins a new call when that call
        already has another id or another name (some servers give every parallel call the index 0), or when nothing but a
        name tells them apart.
        """
        self._flush()
        arguments = arguments.replace("\x00", "")
        slot = self._find(index, call_id)
        if slot is None or _begins_another(slot, index, call_id, name):
            slot = _Slot(len(self._slots) if index is None else index, call_id, name)
            self._slots.append(slot)
        else:
            slot.id = slot.id or call_id
            slot.name = slot.name or name
        if arguments:
            slot.arguments.append(arguments)
        place = self._slots.index(slot)
        last = self._events[-1] if self._events else None
        if isinstance(last, ToolCallDelta) and last.index == place:
            self._events[-1] = ToolCallDelta(place, slot.id, slot.name, last.arguments + arguments)
        else:
            self._events.append(ToolCallDelta(place, slot.id, slot.name, arguments))
        return place

    def drain(self) -> list[ModelEvent]:
        """The deltas since the last call."""
        self._flush()
        events, self._events = self._events, []
        return events

    def finished(self, stop_reason: StopReason) -> ModelFinished:
        """The whole answer.

        Calls without an id, or with one already taken, get a new one; calls without a name are dropped. Where a server's
        stop reason and its calls contradict each other, the calls are right.
        """
        taken: set[str] = set()
        calls: list[ToolCall] = []
        extras: dict[int, dict[str, Any]] = {}
        for place, slot in enumerate(self._slots):
            if not slot.name:
                continue
            if place in self.proof.calls:
                extras[len(calls)] = self.proof.calls[place]
            call_id = slot.id if slot.id and slot.id not in taken else f"call_{uuid.uuid4().hex[:24]}"
            taken.add(call_id)
            calls.append(ToolCall(call_id, slot.name, "".join(slot.arguments).strip() or "{}"))
        self.proof.calls = extras
        if calls and stop_reason is StopReason.END_TURN:
            stop_reason = StopReason.TOOL_CALLS
        elif not calls and stop_reason is StopReason.TOOL_CALLS:
            stop_reason = StopReason.END_TURN
        return ModelFinished(
            stop_reason=stop_reason,
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            tool_calls=tuple(calls),
            usage=self.usage,
            reasoning_signature=proof.written(self.proof),
        )

    def _find(self, index: int | None, call_id: str) -> _Slot | None:
        for slot in reversed(self._slots):
            if (call_id and slot.id == call_id) or (index is not None and slot.index == index):
                return slot
        return self._slots[-1] if self._slots and index is None and not call_id else None

    def _flush(self) -> None:
        if not self._pending:
            return
        # Neither Postgres nor anyone's screen takes a NUL.
        piece = self._pending.replace("\x00", "") if "\x00" in self._pending else self._pending
        self._pending = ""
        if not piece:
            return
        if self._pending_reasoning:
            self._reasoning.append(piece)
            self._events.append(ReasoningDelta(piece))
        else:
            self._text.append(piece)
            self._events.append(TextDelta(piece))


def _begins_another(slot: _Slot, index: int | None, call_id: str, name: str) -> bool:
    if call_id and slot.id and call_id != slot.id:
        return True
    if not (name and slot.name):
        return False
    return name != slot.name or (index is None and not call_id and bool(slot.arguments))


def arguments_object(arguments_json: str) -> dict[str, object]:
    """Tool-call arguments as the object that servers insist on when a call is sent back as history.

    What the model wrote may not be JSON, or not an object; then it is kept under one key, so that the model sees its own mistake.
    """
    try:
        value = msgspec.json.decode(arguments_json or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"invalid_arguments": arguments_json}
