"""Agents: what they are made of and how they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from agent_svc.domain.approval import ApprovalPolicy
from agent_svc.domain.template import TemplateUse
from agent_svc.domain.tool_rules import ToolRule

DEFAULT_MAX_STEPS = 20
DEFAULT_RECALL_TOKENS = 512
DEFAULT_TRIGGER_SHARE = 0.8
DEFAULT_KEPT_SHARE = 0.3
DEFAULT_INSTRUCTIONS = (
    "You are a helpful assistant with a long-term memory. Answer what you are asked, briefly and truthfully. "
    "Use what you know about the person you talk to. If you do not know something, say so."
)


@dataclass(frozen=True, slots=True)
class CompactionSettings:
    """When older messages become a summary, and who writes it; None means the default."""

    enabled: bool | None = None
    trigger_share: float | None = None
    kept_share: float | None = None
    model: str | None = None

    @property
    def trigger_share_or_default(self) -> float:
        """Of the room for the conversation, what it may fill before it is compacted."""
        return DEFAULT_TRIGGER_SHARE if self.trigger_share is None else self.trigger_share

    @property
    def kept_share_or_default(self) -> float:
        """Of that room, what the newest messages may keep; never all that it takes to begin."""
        share = DEFAULT_KEPT_SHARE if self.kept_share is None else self.kept_share
        return min(share, 0.75 * self.trigger_share_or_default)


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How an agent runs; None means the default, which `max_steps_or_default` and its like name."""

    max_steps: int | None = None
    context_window_tokens: int | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    passive_recall: bool | None = None
    passive_recall_tokens: int | None = None
    time_zone: str | None = None
    fallback_models: tuple[str, ...] = ()
    reasoning_effort: str | None = None
    max_run_tokens: int | None = None
    max_run_seconds: int | None = None
    parallel_tool_calls: bool | None = None
    compaction: CompactionSettings = CompactionSettings()
    approvals: ApprovalPolicy | None = None

    @property
    def max_steps_or_default(self) -> int:
        """Most model calls in one run."""
        return DEFAULT_MAX_STEPS if self.max_steps is None else self.max_steps

    @property
    def recall_tokens(self) -> int:
        """Most tokens for recalled hits; 0 when passive recall is off."""
        if self.passive_recall is False:
            return 0
        return DEFAULT_RECALL_TOKENS if self.passive_recall_tokens is None else self.passive_recall_tokens


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as stored. `version` grows with every change and is its etag."""

    id: UUID
    organization_id: UUID
    name: str
    model: str
    instructions: str
    default_conversation_id: UUID
    create_time: datetime
    update_time: datetime
    version: int = 1
    description: str = ""
    tool_ids: tuple[UUID, ...] = ()
    tags: tuple[str, ...] = ()
    settings: AgentSettings = field(default_factory=AgentSettings)
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    tool_rules: tuple[ToolRule, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockDraft:
    """A core memory block to create with an agent; `limit` is in characters."""

    label: str
    value: str = ""
    description: str = ""
    limit: int = 5000
    read_only: bool = False


DEFAULT_BLOCKS = (
    BlockDraft("persona", description="Who you are: your character, your role, how you speak."),
    BlockDraft("human", description="What you know about the person you talk to: name, wishes, facts worth keeping."),
)


@dataclass(frozen=True, slots=True)
class AgentDraft:
    """What a caller asks for when creating an agent. `tools` are ids or names. `template`: what to begin with, as `over` says."""

    name: str
    description: str = ""
    model: str = ""
    instructions: str = ""
    tools: tuple[str, ...] = ()
    blocks: tuple[BlockDraft, ...] = ()
    block_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    settings: AgentSettings = field(default_factory=AgentSettings)
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    tool_rules: tuple[ToolRule, ...] = ()
    template: TemplateUse | None = None
    # Without blocks it gets DEFAULT_BLOCKS.
    default_blocks: bool = True

    def over(self, base: AgentDraft) -> AgentDraft:
        """The draft, with what it leaves open as in `base`; settings and metadata one by one."""
        settings = replace(base.settings, **_set_fields(self.settings))
        return replace(
            base, **{**_set_fields(self), "settings": settings, "metadata": {**base.metadata, **self.metadata}}
        )


def _set_fields(values: AgentDraft | AgentSettings) -> dict[str, Any]:
    """The fields that are not left open."""
    given = {field.name: (getattr(values, field.name), field.default) for field in fields(values)}
    return {
        name: value
        for name, (value, default) in given.items()
        if value is not None and value not in ("", (), {}) and value != default
    }
