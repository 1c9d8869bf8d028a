"""Statements that each connection plans once: PREPARE the first time, then EXECUTE, still in the simple protocol.

So several of them, and the tenant setting, travel in one round trip and are one implicit transaction, and neither side parses or plans
them again (measured: about half of the database's CPU of a turn).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_PARAMETER = re.compile(r"%\((\w+?)(\d*)\)s")

# What the parameters are, by name; a number at the end of a name counts rows of the same kind.
_TYPES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "organization",
                "conversation",
                "run",
                "message",
                "request",
                "step_message",
                "next_message",
                "call_message",
                "audit_id",
                "approval",
                "approval_message",
            ),
            "uuid",
        ),
        **dict.fromkeys(
            (
                "user",
                "owner",
                "preview",
                "model",
                "system_text",
                "recalled_text",
                "call",
                "call_name",
                "call_arguments",
                "end",
                "error_reason",
                "error_message",
                "audit_actor",
                "audit_on_behalf_of",
                "audit_action",
                "audit_resource",
                "audit_request",
                "arguments_hash",
                "reason",
            ),
            "text",
        ),
        **dict.fromkeys(("hash", "queued", "completed", "started", "body"), "bytea"),
        **dict.fromkeys(("repeatable", "approved"), "boolean"),
        **dict.fromkeys(
            (
                "tokens",
                "most",
                "queued_type",
                "completed_type",
                "started_type",
                "type",
                "steps",
                "count",
                "last_message",
                "role",
                "step",
                "estimated",
                "outcome",
                "attempt",
                "state",
                "stop_reason",
            ),
            "integer",
        ),
        **dict.fromkeys(
            (
                "epoch",
                "after",
                "before",
                "limit",
                "history_tokens",
                "run_seq",
                "from_run_seq",
                "from_seq",
                "through_seq",
                "pinned_seq",
                "input",
                "output",
                "cached",
                "duration",
                "ceiling",
                "ceiling_of_user",
                "context_run_seq",
                "context_seq",
            ),
            "bigint",
        ),
        "now": "timestamptz",
        "due_in": "double precision",
        "content": "json",
        "conversations": "uuid[]",
        "epochs": "bigint[]",
        "seqs": "bigint[]",
        "tool_names": "text[]",
        "section_tokens": "integer[]",
        "call_ids": "text[]",
        "tool_versions": "integer[]",
    }
)


class Prepared:
    """One statement with named parameters, `%(name)s`. `name` is unique in the process.

    With `keep` False it is one of too many: connections forget it after its use.
    """

    def __init__(self, name: str, statement: str, *, keep: bool = True) -> None:
        numbers: dict[str, int] = {}
        types: list[str] = []

        def number(match: re.Match[str]) -> str:
            parameter = match.group(1) + match.group(2)
            if parameter not in numbers:
                numbers[parameter] = len(numbers) + 1
                types.append(_TYPES[match.group(1)])
            return f"${numbers[parameter]}"

        body = _PARAMETER.sub(number, statement.strip().rstrip(";"))
        declared = f" ({', '.join(types)})" if types else ""
        given = f" ({', '.join(f'%({parameter})s' for parameter in numbers)})" if numbers else ""
        self.name = name
        self.keep = keep
        self.prepare = f"PREPARE {name}{declared} AS {body}"
        self.execute = f"EXECUTE {name}{given}"
