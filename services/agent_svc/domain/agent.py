"""Agents: what they are made of and how they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from agent_svc.domain.approval import ApprovalPolicy

DEFAULT_MAX_STEPS = 20
DEFAULT_RECALL_TOKENS = 512
DEFAULT_INSTRUCTIONS = (
    "You are a helpful assistant with a long-term memory. Answer what you are asked, briefly and truthfully. "
    "Use what you know about the person you talk to. If you do not know something, say so."
)


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


@dataclass(frozen=True, slots=True)
class BlockDraft:
    """A core memory block to create with an agent; `limit` is in characters."""

    label: str
    value: str = ""
    description: str = ""
    limit: int = 5000


DEFAULT_BLOCKS = (
    BlockDraft("persona", description="Who you are: your character, your role, how you speak."),
    BlockDraft("human", description="What you know about the person you talk to: name, wishes, facts worth keeping."),
)


@dataclass(frozen=True, slots=True)
class AgentDraft:
    """What a caller asks for when creating an agent. `tools` are ids or names."""

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
