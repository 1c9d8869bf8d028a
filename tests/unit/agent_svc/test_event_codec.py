"""Events as bytes, and as watchers get them."""

import hashlib
import json
from dataclasses import replace
from uuid import UUID

import pytest

from agent_svc.domain.approval import ApprovalRequest, Decision
from agent_svc.domain.conversation import MessageRole, Summarized, ToolCallOutcome
from agent_svc.domain.event import (
    ApprovalRequested,
    ApprovalResolved,
    ContextCompacted,
    EventPayload,
    EventType,
    MemoryUpdated,
    MessageCompleted,
    RunCancelled,
    RunFailed,
    RunQueued,
    RunStarted,
    RunSucceeded,
    StepRestarted,
    ToolCallCompleted,
    ToolCallStarted,
)
from agent_svc.domain.frame import CheckpointFrame, DeltaFrame, EventFrame, SnapshotFrame
from agent_svc.domain.model import ToolCall
from agent_svc.domain.run import RunError, RunStopReason, TokenCount
from agent_svc.servicers.event_codec import ProtobufEventCodec
from agent_svc.servicers.frames import FrameWriter
from chassis import ids
from hearth.agent.v1 import event_pb2
from tests.unit.agent_svc.conversations import NOW, RUN, assistant

ORGANIZATION, CONVERSATION = UUID(int=1), UUID(int=2)
USAGE = TokenCount(10, 5, 3)
REQUEST = ApprovalRequest(UUID(int=7), UUID(int=9), (ToolCall("a", "pay", '{"to":"é"}'),), (3,))

EVENTS: list[EventPayload] = [
    RunQueued(),
    RunStarted(),
    MessageCompleted(assistant("hi", 0, "a")),
    StepRestarted(UUID(int=9), 2, "cut"),
    ToolCallStarted(UUID(int=9), ToolCall("a", "look_up", "{}"), 3),
    ToolCallCompleted("a", "look_up", ToolCallOutcome.UNKNOWN, 12),
    ApprovalRequested(REQUEST),
    ApprovalResolved(REQUEST.id, Decision(approved=False, reason="too much")),
    MemoryUpdated(("block_x",), "a", "human"),
    ContextCompacted(UUID(int=9), 2, 30, 4000, 900, truncated=True),
    RunSucceeded(RunStopReason.FINAL_ANSWER, USAGE),
    RunFailed(RunStopReason.ERROR, RunError("MODEL_UNAVAILABLE", "down"), USAGE),
    RunCancelled(USAGE),
]


def written(payload: EventPayload) -> event_pb2.RunEvent:
    encoded = ProtobufEventCodec().encode(payload, NOW)
    frame = EventFrame(41, RUN, 6, encoded.type, encoded.body)
    return FrameWriter(ORGANIZATION, CONVERSATION).write(frame).event


@pytest.mark.parametrize("payload", EVENTS, ids=lambda payload: type(payload).__name__)
def test_every_event_comes_back_with_its_rows_columns(payload: EventPayload) -> None:
    event = written(payload)
    number = event.DESCRIPTOR.fields_by_name[event.WhichOneof("payload") or ""].number
    assert number == payload.type
    assert (event.seq, event.run_id) == (41, ids.encode("run", RUN))
    assert event.conversation_id == ids.encode("conv", CONVERSATION)
    assert event.create_time.ToDatetime(NOW.tzinfo) == NOW


def test_every_type_of_event_is_tested() -> None:
    assert {payload.type for payload in EVENTS} == set(EventType)


def test_what_is_asked_is_bound_by_a_hash_that_anybody_can_make() -> None:
    asked = written(ApprovalRequested(REQUEST)).approval_requested
    plain = json.dumps([["a", "pay", '{"to":"é"}']], separators=(",", ":"), ensure_ascii=False)
    assert asked.arguments_hash == hashlib.sha256(plain.encode()).hexdigest()
    assert (asked.approval_id, asked.tool_calls[0].name) == (ids.encode("appr", REQUEST.id), "pay")


def test_a_message_knows_where_it_stands() -> None:
    message = written(MessageCompleted(assistant("hi", 0, "a"))).message_completed.message
    assert (message.seq, message.text, message.tool_calls[0].id) == (41, "hi", "a")
    assert message.organization_id == ids.encode("org", ORGANIZATION)
    assert message.run_id == ids.encode("run", RUN)


def test_a_summary_says_what_it_stands_for() -> None:
    link = Summarized(from_seq=2, through_seq=30, kept_run_seq=31, kept_seq=32)
    summary = replace(assistant("in short", 0), role=MessageRole.SUMMARY, summarized=link)
    sent = written(MessageCompleted(summary)).message_completed.message.summarized
    assert (sent.from_seq, sent.through_seq, sent.kept_run_seq, sent.kept_seq) == (2, 30, 31, 32)
    told = written(ContextCompacted(summary.id, 2, 30, 4000, 900)).context_compacted
    assert (told.from_seq, told.through_seq, told.tokens_before, told.tokens_after) == (2, 30, 4000, 900)
    assert told.summary_message_id == ids.encode("msg", summary.id)
    assert not told.truncated


def test_the_epoch_comes_from_the_row() -> None:
    assert written(RunStarted()).run_started.epoch == 6


def test_live_frames() -> None:
    writer = FrameWriter(ORGANIZATION, CONVERSATION)
    sent = writer.write(DeltaFrame(RUN, UUID(int=5), 2, True, 7, "hm")).delta
    assert (sent.kind, sent.offset, sent.text, sent.attempt) == (event_pb2.DELTA_KIND_REASONING, 7, "hm", 2)
    assert sent.message_id == ids.encode("msg", UUID(int=5))
    assert writer.write(SnapshotFrame(RUN, UUID(int=6), 1, "abc", "")).snapshot.text == "abc"
    assert writer.write(CheckpointFrame(9)).checkpoint.head_seq == 9
