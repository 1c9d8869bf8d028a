"""Agents described by plain values, as documents do: the fields of a CreateAgentRequest by their names in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent_svc.domain.agent import Agent, AgentDraft


@dataclass(frozen=True, slots=True)
class SpecFault:
    """What is wrong, and where: a path as in `blocks[0].label`."""

    path: str
    description: str


class BadSpec(ValueError):
    """The values describe no agent."""

    def __init__(self, faults: Sequence[SpecFault]) -> None:
        super().__init__("not an agent")
        self.faults = tuple(faults)


class AgentSpecs(Protocol):
    """Values ⇄ drafts, under the rules that CreateAgent has."""

    def decode(self, values: Mapping[str, Any]) -> AgentDraft:
        """Raises BadSpec."""
        ...

    def encode(self, agent: Agent) -> dict[str, Any]:
        """What would make such an agent, without its tools and blocks."""
        ...
