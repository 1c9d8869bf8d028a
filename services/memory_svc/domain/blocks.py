"""Blocks: core memory that is always in an agent's context, how it may be edited, and its history."""

import difflib
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from chassis.errors import FailedPrecondition, OutOfRange

DEFAULT_LIMIT = 5_000
MAX_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class Block:
    """One block. `version` counts changes of the value, `revision` changes of anything; `limit` is in characters."""

    id: uuid.UUID
    organization_id: uuid.UUID
    label: str
    value: str
    description: str
    limit: int
    read_only: bool
    version: int
    revision: int
    create_time: datetime
    update_time: datetime
    agent_ids: tuple[uuid.UUID, ...] = ()

    @property
    def etag(self) -> str:
        """Changes with every change of the block itself; attaching it is not one."""
        return str(self.revision)


@dataclass(frozen=True, slots=True)
class BlockVersion:
    """A block's value after one change: who made it, why, and the difference to the one before."""

    block_id: uuid.UUID
    version: int
    value: str
    author: str
    reason: str
    diff: str
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Append:
    """Add at the end, on a line of its own."""

    text: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Replace what occurs exactly once."""

    old_text: str
    new_text: str


@dataclass(frozen=True, slots=True)
class Insert:
    """Insert before a line, counted from 0; -1 is the end."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Rethink:
    """Replace the whole value."""

    text: str


Edit: TypeAlias = Append | Replace | Insert | Rethink


def edited(value: str, edit: Edit) -> str:
    """The value after an edit.

    Raises FailedPrecondition EDIT_MATCH_COUNT where the text to replace does not occur exactly once, OutOfRange where the
    line lies beyond the end. The messages are read by models: they say what to do next.
    """
    match edit:
        case Append(text):
            return f"{value}\n{text}" if value and not value.endswith("\n") else value + text
        case Replace(old_text, new_text):
            return _replaced(value, old_text, new_text)
        case Insert(text, line):
            return _inserted(value, text, line)
        case Rethink(text):
            return text


def check_limit(value: str, limit: int) -> None:
    """Raises FailedPrecondition BLOCK_LIMIT_EXCEEDED when the value has more characters than the limit allows."""
    if len(value) > limit:
        raise FailedPrecondition(
            f"the block would hold {len(value)} characters and its limit is {limit}: shorten it first",
            reason="BLOCK_LIMIT_EXCEEDED",
            metadata={"limit": str(limit), "length": str(len(value))},
        )


def difference(before: str, after: str) -> str:
    """A unified diff without file names."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def _replaced(value: str, old_text: str, new_text: str) -> str:
    matches = _occurrences(value, old_text)
    if matches == 1:
        return value.replace(old_text, new_text, 1)
    if matches == 0:
        message = "the text to replace was not found: it must match exactly, spaces and line breaks included"
    else:
        message = f"the text to replace occurs {matches} times: give more of the text around it, so that it occurs once"
    raise FailedPrecondition(message, reason="EDIT_MATCH_COUNT", metadata={"matches": str(matches)})


def _occurrences(value: str, text: str) -> int:
    """Counts overlapping ones too: in `aaa` it is not clear which `aa` is meant."""
    count, at = 0, value.find(text)
    while at >= 0:
        count, at = count + 1, value.find(text, at + 1)
    return count


def _inserted(value: str, text: str, line: int) -> str:
    lines = value.split("\n") if value else []
    if line > len(lines):
        raise OutOfRange(
            f"the block has {len(lines)} lines: line must be between 0 and {len(lines)}, or -1 for the end",
            reason="VALIDATION_FAILED",
            metadata={"lines": str(len(lines))},
        )
    at = len(lines) if line < 0 else line
    return "\n".join([*lines[:at], text, *lines[at:]])
