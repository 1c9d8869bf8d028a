"""Approvals: which calls a person must agree to, what exactly was asked, and what was answered."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from agent_svc.domain.decision import CallFate
from agent_svc.domain.model import ToolCall
from agent_svc.domain.tool import Tool


class ApprovalPolicy(enum.IntEnum):
    """Which calls of an agent need an approval. Numbers as in hearth.agent.v1.ApprovalPolicy, and as stored."""

    AS_TOOLS_SAY = 1
    ALWAYS = 2


def arguments_hash(calls: Sequence[ToolCall]) -> str:
    """What a decision is bound to: SHA-256, in hexadecimal, of the JSON array of [id, name, arguments_json] of each call."""
    plain = [[call.id, call.name, call.arguments_json] for call in calls]
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """Calls of one message that a person is asked about together. `tool_versions` are those that the calls would run."""

    id: UUID
    message_id: UUID
    calls: tuple[ToolCall, ...]
    tool_versions: tuple[int, ...]

    @property
    def arguments_hash(self) -> str:
        """Of the calls."""
        return arguments_hash(self.calls)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person answered. `reason` may be empty."""

    approved: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """The decision as it holds for one call: for this version of the tool."""

    decision: Decision
    tool_version: int


def gate(policy: ApprovalPolicy | None, tool: Tool | None, call: ToolCall, ruling: Ruling | None) -> CallFate:
    """What happens to a call that was not begun.

    A refusal stands. An agreement holds for the version of the tool that was asked about. Built-in tools only change the agent's own
    memory; calls that cannot be made (no such tool, malformed arguments) get their error without asking anybody.
    """
    if ruling is not None and not ruling.decision.approved:
        return CallFate.REFUSE
    if tool is None or tool.id is None or not (tool.requires_approval or policy is ApprovalPolicy.ALWAYS):
        return CallFate.EXECUTE
    if ruling is not None and ruling.tool_version == tool.version:
        return CallFate.EXECUTE
    return CallFate.ASK if _is_object(call.arguments_json) else CallFate.EXECUTE


def _is_object(arguments_json: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(arguments_json), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


# By (message, id of the call): what was decided about a run's calls.
RulingKey = tuple[UUID, str]


def rejection(reason: str) -> str:
    """What the model is told of a call that was refused."""
    said = f" They said: {reason}" if reason else ""
    return f"The call was not made: a person was asked for permission and refused.{said}"
