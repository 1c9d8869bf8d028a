"""Events as bytes: a hearth.agent.v1.RunEvent without what its row holds (seq, run, conversation, epoch)."""

from __future__ import annotations

from datetime import datetime

from agent_svc.domain import event as domain
from agent_svc.domain.conversation import Message, Summarized
from agent_svc.domain.event import EncodedEvent, EventPayload
from agent_svc.domain.image import Image
from agent_svc.domain.model import ToolCall
from agent_svc.domain.run import RunError, TokenCount
from agent_svc.servicers.timestamps import timestamp
from chassis import ids
from hearth.agent.v1 import conversation_pb2, event_pb2, run_pb2


class ProtobufEventCodec:
    """Implements interfaces.event_codec.EventCodec."""

    def encode(self, payload: EventPayload, create_time: datetime) -> EncodedEvent:
        """Serializes once; watchers on any replica get these bytes with the row's columns added."""
        event = event_pb2.RunEvent(create_time=timestamp(create_time))
        _fill(event, payload)
        return EncodedEvent(payload.type, event.SerializeToString())


def _fill(event: event_pb2.RunEvent, payload: EventPayload) -> None:
    match payload:
        case domain.RunQueued():
            event.run_queued.SetInParent()
        case domain.RunStarted():
            event.run_started.SetInParent()
        case domain.MessageCompleted(message):
            event.message_completed.message.CopyFrom(message_core(message))
        case domain.StepRestarted(message_id, attempt, cause):
            event.step_restarted.message_id = ids.encode("msg", message_id)
            event.step_restarted.attempt = attempt
            event.step_restarted.cause = cause
        case domain.ToolCallStarted(message_id, call, tool_version):
            event.tool_call_started.message_id = ids.encode("msg", message_id)
            event.tool_call_started.tool_call.CopyFrom(tool_call(call))
            event.tool_call_started.tool_version = tool_version
        case domain.ToolCallCompleted(tool_call_id, name, outcome, duration_ms):
            event.tool_call_completed.tool_call_id = tool_call_id
            event.tool_call_completed.name = name
            event.tool_call_completed.outcome = conversation_pb2.ToolCallOutcome.ValueType(outcome)
            event.tool_call_completed.duration_ms = duration_ms
        case domain.ApprovalRequested(request):
            event.approval_requested.approval_id = ids.encode("appr", request.id)
            event.approval_requested.tool_calls.extend(tool_call(call) for call in request.calls)
            event.approval_requested.arguments_hash = request.arguments_hash
        case domain.ApprovalResolved(approval_id, decision):
            event.approval_resolved.approval_id = ids.encode("appr", approval_id)
            event.approval_resolved.approved = decision.approved
            event.approval_resolved.reason = decision.reason
        case domain.MemoryUpdated(resource_ids, tool_call_id, block_label):
            event.skippable = True
            event.memory_updated.resource_ids.extend(resource_ids)
            event.memory_updated.tool_call_id = tool_call_id
            event.memory_updated.block_label = block_label
        case domain.ContextCompacted():
            event.skippable = True
            event.context_compacted.summary_message_id = ids.encode("msg", payload.summary_message_id)
            event.context_compacted.from_seq = payload.from_seq
            event.context_compacted.through_seq = payload.through_seq
            event.context_compacted.tokens_before = payload.tokens_before
            event.context_compacted.tokens_after = payload.tokens_after
            event.context_compacted.truncated = payload.truncated
        case domain.RunSucceeded(stop_reason, usage):
            event.run_succeeded.stop_reason = run_pb2.RunStopReason.ValueType(stop_reason)
            event.run_succeeded.usage.CopyFrom(token_count(usage))
        case domain.RunFailed(stop_reason, error, usage):
            event.run_failed.stop_reason = run_pb2.RunStopReason.ValueType(stop_reason)
            event.run_failed.error.CopyFrom(run_error(error))
            event.run_failed.usage.CopyFrom(token_count(usage))
        case domain.RunCancelled(usage):
            event.run_cancelled.usage.CopyFrom(token_count(usage))


def message_core(message: Message) -> conversation_pb2.Message:
    """A message without organization, conversation, run and seq."""
    return conversation_pb2.Message(
        id=ids.encode("msg", message.id),
        role=conversation_pb2.MessageRole.ValueType(message.role),
        text=message.text,
        reasoning=message.reasoning,
        tool_calls=[tool_call(call) for call in message.tool_calls],
        tool_call_id=message.tool_call_id,
        tool_outcome=conversation_pb2.ToolCallOutcome.ValueType(message.tool_outcome),
        create_time=timestamp(message.create_time),
        images=[_image(image) for image in message.images],
        summarized=None if message.summarized is None else _summarized(message.summarized),
    )


def _summarized(link: Summarized) -> conversation_pb2.Summarized:
    return conversation_pb2.Summarized(
        from_seq=link.from_seq,
        through_seq=link.through_seq,
        kept_seq=link.kept_seq,
        kept_run_seq=link.kept_run_seq,
    )


def _image(image: Image) -> conversation_pb2.Image:
    """Without its bytes: an event must fit one message of the bus."""
    made = conversation_pb2.Image(media_type=image.media_type, size_bytes=len(image.data), sha256=image.sha256)
    if image.url:
        made.url = image.url
    return made


def tool_call(call: ToolCall) -> conversation_pb2.ToolCall:
    """As on the wire."""
    return conversation_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments_json)


def run_error(error: RunError) -> run_pb2.RunError:
    """As on the wire."""
    return run_pb2.RunError(reason=error.reason, message=error.message)


def token_count(usage: TokenCount) -> run_pb2.Usage:
    """As on the wire."""
    return run_pb2.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_input_tokens=usage.cached_input_tokens,
    )
