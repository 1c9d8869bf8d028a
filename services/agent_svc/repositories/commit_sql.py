"""Builds the one statement that writes a step of a run: events, messages, ledger, step and state, or nothing if fenced."""

from __future__ import annotations

import itertools
from dataclasses import astuple
from typing import Any

from agent_svc.domain.approval import ApprovalRequest
from agent_svc.domain.log import Commit, Ending
from agent_svc.domain.run import RunState
from agent_svc.repositories.approval_sql import LOOK_ONCE_MORE
from agent_svc.repositories.log_sql import COUNT_OUT
from agent_svc.repositories.message_content import encode_content
from agent_svc.repositories.prepared import Prepared

# Statements by their text: a turn's steps have few shapes, each connection prepares each of them once.
_KNOWN: dict[str, Prepared] = {}
_numbers = itertools.count()
_MAX_KNOWN = 500
# A run that fails may leave calls behind (its time is up, its organization disabled): nobody will know how they went.
_OPEN_CALLS = (
    "unknown AS (UPDATE tool_calls SET outcome = 3, end_time = %(now)s FROM conv "
    "WHERE tool_calls.run_id = %(run)s AND tool_calls.outcome = 0)"
)


def commit_statement(commit: Commit) -> tuple[Prepared, dict[str, Any]]:
    """The statement and its values (without the organization). It returns (head_seq, open_runs), or no row if fenced."""
    values: dict[str, Any] = {
        "conversation": commit.lease.conversation_id,
        "epoch": commit.lease.epoch,
        "run": commit.run_id,
        "now": commit.now,
    }
    parts = [_conversation(commit, values), _events(commit, values)]
    if any(entry.message for entry in commit.entries):
        parts.append(_messages(commit, values))
    if commit.step is not None:
        parts.append(_step(commit, values))
    if commit.ledger_starts:
        parts.append(_ledger_starts(commit, values))
    if commit.ledger_ends:
        parts.append(_ledger_ends(commit, values))
    if commit.ending is not None and commit.ending.state is RunState.FAILED:
        parts.append(_OPEN_CALLS)
    if commit.waits:
        parts.append(LOOK_ONCE_MORE)
    if commit.approval is not None:
        parts.append(_approval(commit.approval, values))
    run = _run(commit, values)
    if run:
        parts.append(run)
    text = f"WITH {', '.join(parts)} SELECT head_seq, open_runs FROM conv"
    known = _KNOWN.get(text)
    if known is None:
        keep = len(_KNOWN) < _MAX_KNOWN
        known = Prepared(f"commit_{next(_numbers)}", text, keep=keep)
        if keep:
            _KNOWN[text] = known
    return known, values


def _conversation(commit: Commit, values: dict[str, Any]) -> str:
    values["count"] = len(commit.entries)
    sets = ["head_seq = head_seq + %(count)s", "update_time = %(now)s"]
    offsets = [index for index, entry in enumerate(commit.entries) if entry.message]
    if offsets:
        values["last_message"] = offsets[-1] + 1
        sets.append("message_seq = head_seq + %(last_message)s")
    summary = next((one.message.summarized for one in commit.entries if one.message and one.message.summarized), None)
    if summary is not None:
        values["context_run_seq"] = summary.kept_run_seq
        values["context_seq"] = summary.kept_seq
        sets += ["context_run_seq = %(context_run_seq)s", "context_seq = %(context_seq)s"]
    if commit.ending is not None:
        sets += [
            "open_runs = open_runs - 1",
            "lease_owner = CASE WHEN open_runs = 1 THEN NULL ELSE lease_owner END",
            "lease_epoch = lease_epoch + CASE WHEN open_runs = 1 THEN 1 ELSE 0 END",
        ]
    if commit.waits:
        sets += ["waiting = true", "lease_owner = NULL", "lease_epoch = lease_epoch + 1"]
    return (
        f"conv AS (UPDATE conversations SET {', '.join(sets)} WHERE id = %(conversation)s "
        "AND organization_id = %(organization)s AND lease_epoch = %(epoch)s RETURNING head_seq, open_runs)"
    )


def _events(commit: Commit, values: dict[str, Any]) -> str:
    rows: list[str] = []
    for index, entry in enumerate(commit.entries):
        values[f"type{index}"] = int(entry.event.type)
        values[f"body{index}"] = entry.event.body
        rows.append(f"({index + 1}, %(type{index})s, %(body{index})s)")
    return (
        "event AS (INSERT INTO events (conversation_id, seq, organization_id, run_id, epoch, type, body) "
        "SELECT %(conversation)s, head_seq - %(count)s + place, %(organization)s, %(run)s, %(epoch)s, type, body "
        f"FROM conv, (VALUES {', '.join(rows)}) AS new (place, type, body))"
    )


def _messages(commit: Commit, values: dict[str, Any]) -> str:
    rows: list[str] = []
    for index, entry in enumerate(commit.entries):
        if entry.message is None:
            continue
        values[f"message{index}"] = entry.message.id
        values[f"role{index}"] = int(entry.message.role)
        values[f"tokens{index}"] = entry.message.tokens
        values[f"content{index}"] = encode_content(entry.message)
        values["run_seq"] = entry.message.run_seq
        rows.append(f"({index + 1}, %(message{index})s, %(role{index})s, %(tokens{index})s, %(content{index})s::json)")
    return (
        "message AS (INSERT INTO messages "
        "(conversation_id, seq, id, organization_id, run_id, run_seq, role, tokens, content, create_time) "
        "SELECT %(conversation)s, head_seq - %(count)s + place, id, %(organization)s, %(run)s, %(run_seq)s, role, tokens, "
        f"content, %(now)s FROM conv, (VALUES {', '.join(rows)}) AS new (place, id, role, tokens, content))"
    )


def _step(commit: Commit, values: dict[str, Any]) -> str:
    step = commit.step
    assert step is not None
    values |= {
        "step": step.step,
        "step_message": step.message_id,
        "model": step.model,
        "system_text": step.system_text,
        "recalled_text": step.recalled_text,
        "from_run_seq": step.from_run_seq,
        "from_seq": step.from_seq,
        "through_seq": step.through_seq,
        "pinned_seq": step.pinned_seq,
        "tool_names": list(step.tool_names),
        "estimated": step.estimated_tokens,
        "input": step.usage.input_tokens,
        "output": step.usage.output_tokens,
        "cached": step.usage.cached_input_tokens,
        "section_tokens": [] if step.tokens is None else list(astuple(step.tokens)),
    }
    return (
        "step AS (INSERT INTO run_steps (run_id, step, organization_id, conversation_id, message_id, model, system_text, "
        "recalled_text, from_run_seq, from_seq, through_seq, pinned_seq, tool_names, estimated_tokens, input_tokens, "
        "output_tokens, cached_input_tokens, section_tokens) SELECT %(run)s, %(step)s, %(organization)s, %(conversation)s, "
        "%(step_message)s, %(model)s, %(system_text)s, %(recalled_text)s, %(from_run_seq)s, %(from_seq)s, "
        "%(through_seq)s, %(pinned_seq)s, %(tool_names)s::text[], %(estimated)s, %(input)s, %(output)s, %(cached)s, "
        "%(section_tokens)s::integer[] FROM conv)"
    )


def _ledger_starts(commit: Commit, values: dict[str, Any]) -> str:
    """A call that is begun again (its tool may be repeated) keeps its row."""
    rows: list[str] = []
    for index, start in enumerate(commit.ledger_starts):
        values[f"call{index}"] = start.tool_call_id
        values[f"call_message{index}"] = start.message_id
        values[f"call_name{index}"] = start.name
        values[f"call_arguments{index}"] = start.arguments_json
        values[f"repeatable{index}"] = start.repeatable
        rows.append(
            f"(%(call{index})s, %(call_message{index})s, %(call_name{index})s, %(call_arguments{index})s, "
            f"%(repeatable{index})s)"
        )
    return (
        "ledger AS (INSERT INTO tool_calls (run_id, tool_call_id, organization_id, conversation_id, message_id, name, "
        "arguments, repeatable, epoch, start_time) SELECT %(run)s, id, %(organization)s, %(conversation)s, message, name, "
        f"arguments, repeatable, %(epoch)s, %(now)s FROM conv, (VALUES {', '.join(rows)}) "
        "AS new (id, message, name, arguments, repeatable) "
        "ON CONFLICT (run_id, tool_call_id) DO UPDATE SET epoch = EXCLUDED.epoch, start_time = EXCLUDED.start_time)"
    )


def _ledger_ends(commit: Commit, values: dict[str, Any]) -> str:
    rows: list[str] = []
    for index, end in enumerate(commit.ledger_ends):
        values[f"end{index}"] = end.tool_call_id
        values[f"outcome{index}"] = int(end.outcome)
        values[f"duration{index}"] = end.duration_ms
        rows.append(f"(%(end{index})s, %(outcome{index})s, %(duration{index})s)")
    return (
        "ended AS (UPDATE tool_calls SET outcome = done.outcome, duration_ms = done.duration, end_time = %(now)s "
        f"FROM conv, (VALUES {', '.join(rows)}) AS done (id, outcome, duration) "
        "WHERE tool_calls.run_id = %(run)s AND tool_calls.tool_call_id = done.id)"
    )


def _approval(approval: ApprovalRequest, values: dict[str, Any]) -> str:
    values["approval"] = approval.id
    values["approval_message"] = approval.message_id
    values["call_ids"] = [call.id for call in approval.calls]
    values["tool_versions"] = list(approval.tool_versions)
    values["arguments_hash"] = approval.arguments_hash
    return (
        "approval AS (INSERT INTO approvals (id, organization_id, conversation_id, run_id, message_id, call_ids, "
        "tool_versions, arguments_hash, create_time) SELECT %(approval)s, %(organization)s, %(conversation)s, %(run)s, "
        "%(approval_message)s, %(call_ids)s, %(tool_versions)s, %(arguments_hash)s, %(now)s FROM conv)"
    )


def _run(commit: Commit, values: dict[str, Any]) -> str:
    sets: list[str] = []
    if commit.step is not None:
        sets += [
            "steps = %(step)s",
            "input_tokens = input_tokens + %(input)s",
            "output_tokens = output_tokens + %(output)s",
            "cached_input_tokens = cached_input_tokens + %(cached)s",
        ]
    elif commit.usage is not None:
        values |= {
            "input": commit.usage.input_tokens,
            "output": commit.usage.output_tokens,
            "cached": commit.usage.cached_input_tokens,
        }
        sets += [
            "input_tokens = input_tokens + %(input)s",
            "output_tokens = output_tokens + %(output)s",
            "cached_input_tokens = cached_input_tokens + %(cached)s",
        ]
    if commit.next_message_id is not None:
        values["next_message"] = commit.next_message_id
        sets.append("next_message_id = %(next_message)s")
    if commit.attempt is not None:
        values["attempt"] = commit.attempt
        sets.append("attempt = %(attempt)s")
    if commit.ending is not None:
        sets += _ending(commit.ending, values)
    if commit.waits:
        # Waiting is no failure of a worker's: the claims are counted anew.
        sets += ["state = 3", "claims = 0"]
    if not sets:
        return ""
    update = f"UPDATE runs SET {', '.join(sets)} FROM conv WHERE runs.id = %(run)s"
    if commit.ending is None:
        return f"run AS ({update})"
    return f"run AS ({update} RETURNING runs.user_subject), {COUNT_OUT}"


def _ending(ending: Ending, values: dict[str, Any]) -> list[str]:
    values["state"] = int(ending.state)
    values["stop_reason"] = int(ending.stop_reason)
    sets = ["state = %(state)s", "stop_reason = %(stop_reason)s", "end_time = %(now)s"]
    if ending.error is not None:
        values["error_reason"] = ending.error.reason
        values["error_message"] = ending.error.message
        sets += ["error_reason = %(error_reason)s", "error_message = %(error_message)s"]
    return sets
