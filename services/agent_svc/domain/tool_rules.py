"""Rules for which tools a run may call when: one pure function of the rules, the offered tools and the run's own messages.

Everything follows from persisted messages, so that any worker that takes a run rules the same. A call *counts* once it has
reached its tool, whatever came of it; one that was refused (by a rule, for a name that no tool has, for arguments that are no
JSON object) never happened as far as the rules go.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent_svc.domain.conversation import Message, MessageRole, ToolCallOutcome
from agent_svc.domain.model import ToolCall


@dataclass(frozen=True, slots=True)
class RunFirst:
    """These are the run's first calls, in this order; the run does not end with an answer before."""

    tool_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terminal:
    """The run ends with this tool's result, unless the call failed. Not callable while another tool must be called first."""

    tool_name: str


@dataclass(frozen=True, slots=True)
class AllowedAfter:
    """Right after a call of this tool, only the named ones may be called; none if there are none."""

    tool_name: str
    allowed_tool_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequiredBeforeExit:
    """The run does not end with an answer before this tool was called."""

    tool_name: str


@dataclass(frozen=True, slots=True)
class MaxPerRun:
    """A run calls this tool at most so often."""

    tool_name: str
    calls: int


ToolRule = RunFirst | Terminal | AllowedAfter | RequiredBeforeExit | MaxPerRun

# Names of the kinds, on the wire and as stored; the fields are named alike there and here.
KINDS: Mapping[str, type[ToolRule]] = {
    "run_first": RunFirst,
    "terminal": Terminal,
    "allowed_after": AllowedAfter,
    "required_before_exit": RequiredBeforeExit,
    "max_per_run": MaxPerRun,
}


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the rules say about the next step of a run.

    `allowed` are the tools that the next model call may use, in the order offered; empty: none at all. `must_call`: the model
    must call one. `must_end`: the run is over, no model is asked. `owed` are the tools without whose call no answer ends the
    run. `reminder` is for a model that gave an answer nevertheless, else empty. `refused` says, by id, why calls of the newest
    assistant message are not executed. `stuck`: a call is owed that cannot be made any more, because no tool may be called or
    its tool is not there; the run can neither go on nor end with an answer.
    """

    allowed: tuple[str, ...]
    must_call: bool = False
    must_end: bool = False
    owed: tuple[str, ...] = ()
    reminder: str = ""
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    stuck: bool = False


_REMINDER = (
    "[Not from the user: that cannot be the final answer yet, because this run must call {owed} first. "
    "Tools that you may call now: {allowed}. Call what is missing, then give your answer.]"
)


def rule(rules: Sequence[ToolRule], offered: Sequence[str], messages: Sequence[Message]) -> Ruling:
    """Goes through the calls of a run's own `messages` (oldest first) in their order, as if executed one after the other.

    `offered` are the names of all tools of the agent. A call without a result yet is judged by what was persisted before it.
    """
    state = _State(rules, offered)
    outcomes = {m.tool_call_id: m.tool_outcome for m in messages if m.role is MessageRole.TOOL}
    refused: dict[str, str] = {}
    answered = False
    for message in messages:
        if message.role is not MessageRole.ASSISTANT:
            continue
        answered = not message.tool_calls
        refused = {}
        for call in message.tool_calls:
            objection = state.objection(call.name)
            if objection:
                refused[call.id] = f"{objection} {_what_is_allowed(state.allowed())}"
            else:
                state.take(call, outcomes.get(call.id, ToolCallOutcome.NONE))
    allowed = state.allowed()
    owed = tuple(state.owed())
    reminder = _REMINDER.format(owed=_names(owed), allowed=_names(allowed)) if answered and owed else ""
    must_call = bool(allowed) and (state.first() is not None or bool(reminder))
    stuck = bool(owed) and not state.ended and (not allowed or not set(owed) <= set(offered))
    return Ruling(allowed, must_call, state.ended, owed, reminder, refused, stuck)


def in_order(rules: Sequence[ToolRule]) -> bool:
    """Whether the calls of one message must be executed one after the other to keep the rules."""
    return any(isinstance(one, (RunFirst, Terminal, AllowedAfter)) for one in rules)


def named(rules: Sequence[ToolRule]) -> Iterator[tuple[str, str]]:
    """Every tool name in the rules, with the path of its field below the agent."""
    for number, one in enumerate(rules):
        at = f"tool_rules[{number}]"
        match one:
            case RunFirst(names):
                yield from ((f"{at}.run_first.tool_names[{place}]", name) for place, name in enumerate(names))
            case Terminal(name):
                yield f"{at}.terminal.tool_name", name
            case AllowedAfter(name, names):
                yield f"{at}.allowed_after.tool_name", name
                path = f"{at}.allowed_after.allowed_tool_names"
                yield from ((f"{path}[{place}]", after) for place, after in enumerate(names))
            case RequiredBeforeExit(name):
                yield f"{at}.required_before_exit.tool_name", name
            case MaxPerRun(name):
                yield f"{at}.max_per_run.tool_name", name


class _State:
    """Where a run is, by the calls that counted so far."""

    def __init__(self, rules: Sequence[ToolRule], offered: Sequence[str]) -> None:
        self._offered = tuple(offered)
        self._first = [name for one in rules if isinstance(one, RunFirst) for name in one.tool_names]
        self._terminal = {one.tool_name for one in rules if isinstance(one, Terminal)}
        self._after = [one for one in rules if isinstance(one, AllowedAfter)]
        self._required = [one.tool_name for one in rules if isinstance(one, RequiredBeforeExit)]
        self._most: dict[str, int] = {}
        for one in rules:
            if isinstance(one, MaxPerRun):
                self._most[one.tool_name] = min(one.calls, self._most.get(one.tool_name, one.calls))
        self._calls: Counter[str] = Counter()
        self._last = ""
        self.ended = False

    def first(self) -> str | None:
        """The first call that is still to be made before any other."""
        return next((name for name in self._first if not self._calls[name]), None)

    def owed(self) -> list[str]:
        """The tools that must be called before an answer ends the run."""
        return [name for name in dict.fromkeys([*self._first, *self._required]) if not self._calls[name]]

    def allowed(self) -> tuple[str, ...]:
        """Of the offered tools, those that may be called next."""
        return tuple(name for name in self._offered if not self.objection(name))

    def objection(self, name: str) -> str:
        """Why this tool may not be called next; empty if it may."""
        if self.ended:
            return "The run has ended."
        first = self.first()
        if first is not None and first != name:
            return f"{name!r} may not be called yet: {first!r} must be called before it."
        if name in self._most and self._calls[name] >= self._most[name]:
            return f"{name!r} may not be called again in this run: its limit of {self._most[name]} is reached."
        if any(one.tool_name == self._last and name not in one.allowed_tool_names for one in self._after):
            return f"{name!r} may not be called right after {self._last!r}."
        if name in self._terminal and (others := [other for other in self.owed() if other != name]):
            return f"{name!r} ends the run and may not be called yet: {_names(others)} must be called before it."
        return ""

    def take(self, call: ToolCall, outcome: ToolCallOutcome) -> None:
        """Counts a call to which nothing objects, if it reached its tool."""
        happened = outcome in (ToolCallOutcome.SUCCEEDED, ToolCallOutcome.UNKNOWN)
        if not happened and (call.name not in self._offered or not is_object(call.arguments_json)):
            return
        self._calls[call.name] += 1
        self._last = call.name
        self.ended = happened and call.name in self._terminal


def as_fields(one: ToolRule) -> tuple[str, dict[str, Any]]:
    """A rule's kind and its fields, as a client or the database is given them."""
    kind = next(name for name, known in KINDS.items() if isinstance(one, known))
    return kind, msgspec.to_builtins(one)


def from_fields(kind: str, fields: Mapping[str, Any]) -> ToolRule:
    """The opposite of `as_fields`."""
    return msgspec.convert(fields, KINDS[kind])


def is_object(arguments_json: str) -> bool:
    """Whether a call's arguments are one JSON object."""
    try:
        return isinstance(msgspec.json.decode(arguments_json), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def _what_is_allowed(allowed: Sequence[str]) -> str:
    return f"Tools that you may call now: {_names(allowed)}." if allowed else "No tool may be called now: answer."


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
