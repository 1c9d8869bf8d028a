"""Changes of agents and conversations: what a caller wants different, and the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from agent_svc.domain.agent import Agent, AgentSettings
from agent_svc.domain.tool_rules import ToolRule


@dataclass(frozen=True, slots=True)
class AgentChange:
    """New values; None leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    model: str | None = None
    instructions: str | None = None
    tool_ids: tuple[UUID, ...] | None = None
    tags: tuple[str, ...] | None = None
    settings: AgentSettings | None = None
    metadata: Mapping[str, str] | None = None
    tool_rules: tuple[ToolRule, ...] | None = None


def changed(agent: Agent, change: AgentChange, now: datetime) -> Agent:
    """The agent with the new values, as a new version."""
    given = {name: value for name in AgentChange.__dataclass_fields__ if (value := getattr(change, name)) is not None}
    return replace(agent, **given, version=agent.version + 1, update_time=now)


def etag(version: int) -> str:
    """What a version is called on the wire."""
    return str(version)
