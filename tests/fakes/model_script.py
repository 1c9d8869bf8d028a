"""What the scripted model server plays: steps, scripts found by a marker, and the book of what it was asked."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

import msgspec

Scope = Literal["user", "last_user", "any"]
Outcome = Literal["open", "completed", "client_closed", "cut", "error"]


class ScriptedCall(msgspec.Struct, forbid_unknown_fields=True):
    """A tool call to answer with. `arguments` as a text is sent as it is, valid or not."""

    name: str
    arguments: dict[str, Any] | str = msgspec.field(default_factory=dict[str, Any])
    id: str = ""


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """One answer. Everything is optional; an empty step is an empty answer.

    Text goes out word by word, or `chunk_size` characters at a time, `delay_ms` before the first and `token_delay_ms` between
    pieces ("pieces" count text, reasoning and tool-call frames). Faults happen after that many pieces: `stall_after` (silence until the
    client goes), `cut_after` (the connection breaks), `garbage_after` (something that is not JSON), `gate_after` (wait until
    the gate named `gate` is opened). `stall_before_head` never answers at all. `omit` leaves parts out, as odd servers do.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ScriptedCall] = msgspec.field(default_factory=list[ScriptedCall])
    chunk_size: int = 0
    delay_ms: float = 0
    token_delay_ms: float = 0
    status: int = 200
    error: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    error_in_stream: dict[str, Any] | None = None
    garbage_after: int | None = None
    stall_after: int | None = None
    cut_after: int | None = None
    gate: str = ""
    gate_after: int = 0
    stall_before_head: bool = False
    raw: list[str] | None = None
    content_type: str = ""
    finish_reason: str = ""
    usage: dict[str, Any] | None = None
    omit: list[Literal["usage", "done", "finish_reason", "tool_index", "tool_id"]] = msgspec.field(
        default_factory=list[Literal["usage", "done", "finish_reason", "tool_index", "tool_id"]]
    )


class Script(msgspec.Struct, forbid_unknown_fields=True):
    """Answers for the requests that contain `match`: the steps one after the other, then (with `repeat`) the last one for ever.

    `scope` says where the marker must be: in any of the user's messages, in the last of them, or in any message of any role.
    With `model`, only requests for that model count.
    """

    match: str
    steps: list[Step]
    scope: Scope = "user"
    repeat: bool = False
    model: str = ""
    played: int = 0


class Default(msgspec.Struct, forbid_unknown_fields=True):
    """What is answered without a script: the echo of the last user message, or (mode instant) `tokens` words at once."""

    mode: Literal["echo", "instant"] = "echo"
    tokens: int = 50
    token_delay_ms: float = 0


class SeenRequest(msgspec.Struct):
    """One model request as it came; its key stands in `credential`, not in `headers`. `pieces` had been sent when it ended."""

    number: int
    time: float
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    credential: str = ""
    script: str = ""
    outcome: Outcome = "open"
    pieces: int = 0


class Book:
    """The server's state: scripts, gates, requests seen and streams under way."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.requests: list[SeenRequest] = []
        self.default = Default()
        self.in_flight = 0
        self.recording = True
        self.models = ["scripted"]
        self._number = 0
        self._gates: dict[str, asyncio.Event] = {}

    def gate(self, name: str) -> asyncio.Event:
        """The gate of that name; closed until someone opens it."""
        return self._gates.setdefault(name, asyncio.Event())

    def open_every_gate(self) -> None:
        """Let everybody through, and forget the gates."""
        for gate in self._gates.values():
            gate.set()
        self._gates.clear()

    def note(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> SeenRequest:
        """Write a request down."""
        self._number += 1
        credential = headers.pop("x-api-key", "") or headers.pop("authorization", "").removeprefix("Bearer ")
        seen = SeenRequest(self._number, time.time(), path, body, headers, credential)
        if self.recording:
            self.requests.append(seen)
        return seen

    def next_step(self, seen: SeenRequest) -> Step:
        """The step to play for this request: of the newest script that matches and has one left, else the default."""
        messages = messages_of(seen.body)
        users = [text_of(message) for message in messages if message.get("role") == "user"]
        last = next((text for text in reversed(users) if text), "")
        for script in reversed(self.scripts):
            texts = {"user": users, "last_user": [last], "any": [text_of(message) for message in messages]}[
                script.scope
            ]
            if script.model and script.model != seen.body.get("model"):
                continue
            if not any(script.match in text for text in texts):
                continue
            if script.played < len(script.steps) or (script.repeat and script.steps):
                step = script.steps[min(script.played, len(script.steps) - 1)]
                script.played += 1
                seen.script = script.match
                return step
        if self.default.mode == "instant":
            return Step(text="word " * self.default.tokens, token_delay_ms=self.default.token_delay_ms)
        return Step(text=f"You said: {last}", token_delay_ms=self.default.token_delay_ms)


def messages_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages of a request in any of the protocols, with their content under `content`."""
    if "contents" in body:
        return [{"role": one.get("role"), "content": one.get("parts")} for one in body["contents"]]
    told: list[dict[str, Any]] = body.get("messages") or body.get("input") or []
    return [message for message in told if "role" in message]


def text_of(message: dict[str, Any]) -> str:
    """A message's text, whether given as one text or as a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts: list[dict[str, Any]] = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if part.get("text"))
