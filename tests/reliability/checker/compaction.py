"""Summaries: each is told of once, stands for what is in the log, and for more than the one before; and no model call misses
a message that no summary stands for."""

from collections.abc import Iterator
from typing import Any

from chassis import ids
from tests.reliability.checker.stored import StoredConversation

_USER = 1
_SUMMARY = 4


def compactions(conversation: StoredConversation) -> Iterator[str]:
    """The rule of a conversation."""
    summaries = [message for message in conversation.messages if message["role"] == _SUMMARY]
    told = [one for one in conversation.events if one.kind == "context_compacted"]
    reported = [(one.event.seq - 1, one.event.context_compacted.summary_message_id) for one in told]
    if reported != [(message["seq"], ids.encode("msg", message["id"])) for message in summaries]:
        yield f"events report the summaries {reported}, stored are those at {[one['seq'] for one in summaries]}"
        return
    seqs = {message["seq"] for message in conversation.messages}
    kept = (0, 0)
    for message, one in zip(summaries, told, strict=True):
        link, event = message["content"]["summarized"], one.event.context_compacted
        begin, through = link["from_seq"], link["through_seq"]
        if (begin, through) != (event.from_seq, event.through_seq):
            yield f"the summary at {message['seq']} stands for {begin} to {through}, its event says otherwise"
        if not {begin, through, link["kept_seq"]} <= seqs or not begin <= through < message["seq"]:
            yield f"the summary at {message['seq']} stands for {begin} to {through}, which are no messages before it"
        if (link["kept_run_seq"], link["kept_seq"]) <= kept:
            yield f"the summary at {message['seq']} stands for nothing that the one before it does not stand for"
        kept = (link["kept_run_seq"], link["kept_seq"])
    row = conversation.row
    if (row["context_run_seq"], row["context_seq"]) != kept:
        yield f"the next turn reads from {(row['context_run_seq'], row['context_seq'])} on, the newest summary says {kept}"
    for step in conversation.steps:
        yield from _step(conversation, summaries, step)


def _step(conversation: StoredConversation, summaries: list[dict[str, Any]], step: dict[str, Any]) -> Iterator[str]:
    """What was sent begins where the newest summary of then ends: nothing is left out in between."""
    seen = [message for message in summaries if message["seq"] <= step["through_seq"]]
    if not seen:
        return
    link = seen[-1]["content"]["summarized"]
    run_seq = next(run["run_seq"] for run in conversation.runs if run["id"] == step["run_id"])
    missing = [
        message["seq"]
        for message in conversation.messages
        if message["role"] != _SUMMARY
        and message["seq"] <= step["through_seq"]
        and message["run_seq"] <= run_seq
        and not _covers(link, message)
        and (message["run_seq"], message["seq"]) < (step["from_run_seq"], step["from_seq"])
        and message["seq"] != step["pinned_seq"]
    ]
    if missing:
        yield f"step {step['step']} of {ids.encode('run', step['run_id'])} was not sent the messages at {missing}"


def _covers(link: dict[str, Any], message: dict[str, Any]) -> bool:
    if message["run_seq"] != link["kept_run_seq"]:
        return bool(message["run_seq"] < link["kept_run_seq"])
    return bool(message["seq"] < link["kept_seq"] and message["role"] != _USER)
