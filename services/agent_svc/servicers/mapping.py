"""Domain ⇄ protobuf for agents, conversations, messages, runs and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from google.protobuf.json_format import ParseDict

from agent_svc.domain.agent import Agent, AgentDraft, AgentSettings, BlockDraft, CompactionSettings
from agent_svc.domain.approval import ApprovalPolicy
from agent_svc.domain.changes import AgentChange, etag
from agent_svc.domain.conversation import Conversation, Message
from agent_svc.domain.model import ModelDescription, ModelPrice
from agent_svc.domain.run import Run, RunContext
from agent_svc.domain.template import Template, TemplateUse, TemplateVariable
from agent_svc.domain.tool_rules import KINDS, ToolRule, as_fields, from_fields
from agent_svc.servicers.event_codec import message_core, run_error, token_count
from agent_svc.servicers.timestamps import timestamp
from chassis import ids
from hearth.agent.v1 import agent_pb2, agent_service_pb2, conversation_pb2, model_pb2, run_pb2, template_pb2

_DEFAULT_BLOCK_LIMIT = 5000


def optional_id(prefix: str, text: str) -> UUID | None:
    """None for the empty text. Raises NotFound for what is no id."""
    return ids.decode(prefix, text) if text else None


def agent_to_proto(agent: Agent) -> agent_pb2.Agent:
    """As on the wire."""
    return agent_pb2.Agent(
        id=ids.encode("agent", agent.id),
        organization_id=ids.encode("org", agent.organization_id),
        name=agent.name,
        description=agent.description,
        model=agent.model,
        instructions=agent.instructions,
        tool_ids=[ids.encode("tool", tool_id) for tool_id in agent.tool_ids],
        tags=agent.tags,
        settings=_settings_to_proto(agent.settings),
        metadata=agent.metadata,
        default_conversation_id=ids.encode("conv", agent.default_conversation_id),
        create_time=timestamp(agent.create_time),
        update_time=timestamp(agent.update_time),
        etag=etag(agent.version),
        tool_rules=[ParseDict(dict([as_fields(one)]), agent_pb2.ToolRule()) for one in agent.tool_rules],
    )


def draft_from_proto(request: agent_service_pb2.CreateAgentRequest) -> AgentDraft:
    """What CreateAgent asks for."""
    return AgentDraft(
        name=request.name,
        description=request.description,
        model=request.model,
        instructions=request.instructions,
        tools=tuple(request.tools),
        blocks=tuple(
            BlockDraft(block.label, block.value, block.description, block.limit or _DEFAULT_BLOCK_LIMIT)
            for block in request.blocks
        ),
        block_ids=tuple(request.block_ids),
        tags=tuple(request.tags),
        settings=_settings_from_proto(request.settings),
        metadata=dict(request.metadata),
        tool_rules=tuple(map(_rule_from_proto, request.tool_rules)),
        template=_template_use(request),
    )


def _template_use(request: agent_service_pb2.CreateAgentRequest) -> TemplateUse | None:
    if not request.template:
        return None
    return TemplateUse(request.template, request.template_version, dict(request.variables))


def change_from_proto(agent: agent_pb2.Agent, paths: Sequence[str]) -> AgentChange:
    """The values that the mask names."""
    wanted = set(paths)
    return AgentChange(
        name=agent.name if "name" in wanted else None,
        description=agent.description if "description" in wanted else None,
        model=agent.model if "model" in wanted else None,
        instructions=agent.instructions if "instructions" in wanted else None,
        tool_ids=tuple(ids.decode("tool", one) for one in agent.tool_ids) if "tool_ids" in wanted else None,
        tags=tuple(agent.tags) if "tags" in wanted else None,
        settings=_settings_from_proto(agent.settings) if "settings" in wanted else None,
        metadata=dict(agent.metadata) if "metadata" in wanted else None,
        tool_rules=tuple(map(_rule_from_proto, agent.tool_rules)) if "tool_rules" in wanted else None,
    )


def _rule_from_proto(one: agent_pb2.ToolRule) -> ToolRule:
    kind = one.WhichOneof("kind")
    assert kind is not None  # The schema requires it.
    values = {name: getattr(getattr(one, kind), name) for name in KINDS[kind].__dataclass_fields__}
    return from_fields(kind, {n: v if isinstance(v, (str, int)) else list(v) for n, v in values.items()})


def _settings_to_proto(settings: AgentSettings) -> agent_pb2.AgentSettings:
    return agent_pb2.AgentSettings(
        max_steps=settings.max_steps,
        context_window_tokens=settings.context_window_tokens,
        temperature=settings.temperature,
        max_output_tokens=settings.max_output_tokens,
        passive_recall=settings.passive_recall,
        passive_recall_tokens=settings.passive_recall_tokens,
        time_zone=settings.time_zone,
        fallback_models=settings.fallback_models,
        reasoning_effort=settings.reasoning_effort,
        max_run_tokens=settings.max_run_tokens,
        max_run_seconds=settings.max_run_seconds,
        parallel_tool_calls=settings.parallel_tool_calls,
        compaction=_compaction_to_proto(settings.compaction),
        approvals=agent_pb2.ApprovalPolicy.ValueType(settings.approvals or 0),
    )


def _compaction_to_proto(compaction: CompactionSettings) -> agent_pb2.CompactionSettings | None:
    """None when nothing is set."""
    if compaction == CompactionSettings():
        return None
    return agent_pb2.CompactionSettings(
        enabled=compaction.enabled,
        trigger_share=compaction.trigger_share,
        kept_share=compaction.kept_share,
        model=compaction.model,
    )


def _settings_from_proto(settings: agent_pb2.AgentSettings) -> AgentSettings:
    given: dict[str, Any] = {descriptor.name: value for descriptor, value in settings.ListFields()}
    given["fallback_models"] = tuple(settings.fallback_models)
    given["compaction"] = CompactionSettings(
        **{descriptor.name: value for descriptor, value in settings.compaction.ListFields()}
    )
    given["approvals"] = ApprovalPolicy(settings.approvals) if settings.approvals else None
    return AgentSettings(**given)


def conversation_to_proto(conversation: Conversation) -> conversation_pb2.Conversation:
    """As on the wire."""
    return conversation_pb2.Conversation(
        id=ids.encode("conv", conversation.id),
        organization_id=ids.encode("org", conversation.organization_id),
        agent_id=ids.encode("agent", conversation.agent_id),
        display_name=conversation.display_name,
        head_seq=conversation.head_seq,
        create_time=timestamp(conversation.create_time),
        update_time=timestamp(conversation.update_time),
        etag=etag(conversation.version),
    )


def message_to_proto(message: Message, organization_id: str, conversation_id: str) -> conversation_pb2.Message:
    """As on the wire."""
    made = message_core(message)
    made.organization_id = organization_id
    made.conversation_id = conversation_id
    made.run_id = ids.encode("run", message.run_id)
    made.seq = message.seq
    return made


def run_to_proto(run: Run) -> run_pb2.Run:
    """As on the wire."""
    return run_pb2.Run(
        id=ids.encode("run", run.id),
        organization_id=ids.encode("org", run.organization_id),
        agent_id=ids.encode("agent", run.agent_id),
        conversation_id=ids.encode("conv", run.conversation_id),
        state=run_pb2.RunState.ValueType(run.state),
        stop_reason=run_pb2.RunStopReason.ValueType(run.stop_reason),
        error=None if run.error is None else run_error(run.error),
        usage=token_count(run.usage),
        steps=run.steps,
        first_seq=run.first_seq,
        create_time=timestamp(run.create_time),
        start_time=None if run.start_time is None else timestamp(run.start_time),
        end_time=None if run.end_time is None else timestamp(run.end_time),
        input_preview=run.input_preview,
    )


def context_to_proto(context: RunContext) -> run_pb2.RunContext:
    """As on the wire."""
    step = context.step
    return run_pb2.RunContext(
        step=step.step,
        model=step.model,
        system_text="\n\n".join(part for part in (step.system_text, step.recalled_text) if part),
        recalled_text=step.recalled_text,
        messages=[
            run_pb2.ContextMessage(message_id=ids.encode("msg", one.message_id), role=one.role, text=one.text)
            for one in context.messages
        ],
        tool_names=step.tool_names,
        estimated_tokens=step.estimated_tokens,
        usage=token_count(step.usage),
        tokens=None if step.tokens is None else run_pb2.ContextTokens(**asdict(step.tokens)),
    )


def model_to_proto(model: ModelDescription) -> model_pb2.Model:
    """As on the wire."""
    return model_pb2.Model(
        name=model.name,
        usable=model.usable,
        unusable_reason=model.unusable_reason,
        supports_tools=model.capabilities.supports_tools,
        context_window_tokens=model.capabilities.context_window or 0,
        default=model.is_default,
        images=_support(model.capabilities.images),
        reasoning=_support(model.capabilities.reasoning),
        structured_output=_support(model.capabilities.structured_output),
        price=None if model.price is None else _price(model.price),
    )


def _support(known: bool | None) -> model_pb2.ModelSupport.ValueType:
    if known is None:
        return model_pb2.MODEL_SUPPORT_UNSPECIFIED
    return model_pb2.MODEL_SUPPORT_YES if known else model_pb2.MODEL_SUPPORT_NO


def _price(price: ModelPrice) -> model_pb2.ModelPrice:
    return model_pb2.ModelPrice(input=price.input, output=price.output, cached_input=price.cached_input)


def template_to_proto(template: Template, *, whole: bool = True) -> template_pb2.Template:
    """As on the wire; not whole: as in lists."""
    return template_pb2.Template(
        id=ids.encode("tmpl", template.id),
        organization_id=ids.encode("org", template.organization_id),
        name=template.name,
        description=template.description,
        version=template.version,
        document=template.document if whole else "",
        variables=[_variable(one) for one in template.variables] if whole else (),
        create_time=timestamp(template.create_time),
        update_time=timestamp(template.update_time),
        etag=etag(template.version),
    )


def _variable(variable: TemplateVariable) -> template_pb2.TemplateVariable:
    return template_pb2.TemplateVariable(
        name=variable.name,
        description=variable.description,
        default_value=variable.default,
        required=variable.required,
    )
